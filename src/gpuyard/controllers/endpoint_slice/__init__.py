"""The EndpointSlice controller: writes down which pods are behind a Service."""
