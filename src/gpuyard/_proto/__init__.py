"""Generated from proto/ by tools/generate_proto.py: the kubelet's gRPC interfaces."""
