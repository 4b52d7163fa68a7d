"""Which package of Debian or Ubuntu brings a shared library, of those that wheels leave to the system."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: Package=soname,…, as Debian 12 has them; Ubuntu 22.04 calls them the same.
_PACKAGES = """
    libaio1=libaio.so.1 libarchive13=libarchive.so.13 libasound2=libasound.so.2 libassimp5=libassimp.so.5
    libatk-bridge2.0-0=libatk-bridge-2.0.so.0 libatk1.0-0=libatk-1.0.so.0 libatomic1=libatomic.so.1
    libatspi2.0-0=libatspi.so.0 libbrotli1=libbrotlidec.so.1,libbrotlicommon.so.1 libbz2-1.0=libbz2.so.1.0
    libcairo-gobject2=libcairo-gobject.so.2 libcairo2=libcairo.so.2 libcap2=libcap.so.2
    libcgraph6=libcgraph.so.6 libcrypt1=libcrypt.so.1 libcups2=libcups.so.2 libcurl4=libcurl.so.4
    libdbus-1-3=libdbus-1.so.3 libdrm2=libdrm.so.2 libegl1=libEGL.so.1 libenchant-2-2=libenchant-2.so.2
    libespeak-ng1=libespeak-ng.so.1 libevent-2.1-7=libevent-2.1.so.7 libexpat1=libexpat.so.1
    libfabric1=libfabric.so.1 libffi8=libffi.so.8 libfftw3-double3=libfftw3.so.3
    libfontconfig1=libfontconfig.so.1 libfreetype6=libfreetype.so.6 libfuse2=libfuse.so.2
    libgbm1=libgbm.so.1 libgcc-s1=libgcc_s.so.1 libgdk-pixbuf-2.0-0=libgdk_pixbuf-2.0.so.0
    libgfortran5=libgfortran.so.5 libgirepository-1.0-1=libgirepository-1.0.so.1 libgl1=libGL.so.1
    libgles2=libGLESv2.so.2 libglew2.2=libGLEW.so.2.2 libglfw3=libglfw.so.3
    libglib2.0-0=libglib-2.0.so.0,libgthread-2.0.so.0,libgobject-2.0.so.0,libgio-2.0.so.0,libgmodule-2.0.so.0
    libglu1-mesa=libGLU.so.1 libglvnd0=libGLdispatch.so.0 libglx0=libGLX.so.0 libgmp10=libgmp.so.10
    libgomp1=libgomp.so.1 libgssapi-krb5-2=libgssapi_krb5.so.2 libgstreamer1.0-0=libgstreamer-1.0.so.0
    libgtk-3-0=libgtk-3.so.0,libgdk-3.so.0 libgtk2.0-0=libgtk-x11-2.0.so.0 libgvc6=libgvc.so.6
    libharfbuzz0b=libharfbuzz.so.0 libheif1=libheif.so.1 libhwloc15=libhwloc.so.15
    libibverbs1=libibverbs.so.1 libice6=libICE.so.6 libjack0=libjack.so.0 libjpeg62-turbo=libjpeg.so.62
    libkrb5-3=libkrb5.so.3 libltdl7=libltdl.so.7 liblz4-1=liblz4.so.1 liblzma5=liblzma.so.5
    libmagic1=libmagic.so.1 libmariadb3=libmariadb.so.3 libmp3lame0=libmp3lame.so.0 libmpfr6=libmpfr.so.6
    libmpg123-0=libmpg123.so.0 libncurses6=libncurses.so.6 libncursesw6=libncursesw.so.6
    libnspr4=libnspr4.so libnss3=libnss3.so libnuma1=libnuma.so.1 libodbc2=libodbc.so.2 libogg0=libogg.so.0
    libomp5-19=libomp.so.5 libopengl0=libOpenGL.so.0 libopenjp2-7=libopenjp2.so.7
    libopenslide0=libopenslide.so.0 libopus0=libopus.so.0 libosmesa6=libOSMesa.so.8
    libpango-1.0-0=libpango-1.0.so.0 libpangocairo-1.0-0=libpangocairo-1.0.so.0
    libpangoft2-1.0-0=libpangoft2-1.0.so.0 libpcap0.8=libpcap.so.0.8 libpng16-16=libpng16.so.16
    libportaudio2=libportaudio.so.2 libpq5=libpq.so.5 libproj25=libproj.so.25
    libpulse0=libpulse.so.0,libpulse-simple.so.0 libquadmath0=libquadmath.so.0 librdkafka1=librdkafka.so.1
    librdmacm1=librdmacm.so.1 libreadline8=libreadline.so.8 libsamplerate0=libsamplerate.so.0
    libsasl2-2=libsasl2.so.2 libsdl2-2.0-0=libSDL2-2.0.so.0 libsm6=libSM.so.6 libsnappy1v5=libsnappy.so.1
    libsndfile1=libsndfile.so.1 libsodium23=libsodium.so.23 libsqlite3-0=libsqlite3.so.0
    libssl3=libssl.so.3,libcrypto.so.3 libstdc++6=libstdc++.so.6 libsybdb5=libsybdb.so.5
    libtbb12=libtbb.so.12 libtesseract5=libtesseract.so.5 libtheora0=libtheora.so.0 libtiff6=libtiff.so.6
    libtinfo6=libtinfo.so.6 libturbojpeg0=libturbojpeg.so.0 libucx0=libucp.so.0 libudev1=libudev.so.1
    libunwind8=libunwind.so.8 libusb-1.0-0=libusb-1.0.so.0 libuuid1=libuuid.so.1 libuv1=libuv.so.1
    libv4l-0=libv4l2.so.0 libva-drm2=libva-drm.so.2 libva-x11-2=libva-x11.so.2 libva2=libva.so.2
    libvdpau1=libvdpau.so.1 libvips42=libvips.so.42 libvorbis0a=libvorbis.so.0 libvulkan1=libvulkan.so.1
    libwayland-client0=libwayland-client.so.0 libwayland-cursor0=libwayland-cursor.so.0
    libwayland-egl1=libwayland-egl.so.1 libwayland-server0=libwayland-server.so.0 libwebp7=libwebp.so.7
    libx11-6=libX11.so.6 libx11-xcb1=libX11-xcb.so.1 libxau6=libXau.so.6 libxaw7=libXaw.so.7
    libxcb-cursor0=libxcb-cursor.so.0 libxcb-dri3-0=libxcb-dri3.so.0 libxcb-glx0=libxcb-glx.so.0
    libxcb-icccm4=libxcb-icccm.so.4 libxcb-image0=libxcb-image.so.0 libxcb-keysyms1=libxcb-keysyms.so.1
    libxcb-randr0=libxcb-randr.so.0 libxcb-render-util0=libxcb-render-util.so.0
    libxcb-render0=libxcb-render.so.0 libxcb-shape0=libxcb-shape.so.0 libxcb-shm0=libxcb-shm.so.0
    libxcb-sync1=libxcb-sync.so.1 libxcb-util1=libxcb-util.so.1 libxcb-xfixes0=libxcb-xfixes.so.0
    libxcb-xinerama0=libxcb-xinerama.so.0 libxcb-xkb1=libxcb-xkb.so.1 libxcb1=libxcb.so.1
    libxcomposite1=libXcomposite.so.1 libxcursor1=libXcursor.so.1 libxdamage1=libXdamage.so.1
    libxext6=libXext.so.6 libxfixes3=libXfixes.so.3 libxft2=libXft.so.2 libxi6=libXi.so.6
    libxinerama1=libXinerama.so.1 libxkbcommon-x11-0=libxkbcommon-x11.so.0 libxkbcommon0=libxkbcommon.so.0
    libxml2=libxml2.so.2 libxmu6=libXmu.so.6 libxpm4=libXpm.so.4 libxrandr2=libXrandr.so.2
    libxrender1=libXrender.so.1 libxslt1.1=libxslt.so.1 libxss1=libXss.so.1 libxt6=libXt.so.6
    libxtst6=libXtst.so.6 libxv1=libXv.so.1 libxxf86vm1=libXxf86vm.so.1 libyaml-0-2=libyaml-0.so.2
    libzbar0=libzbar.so.0 libzmq5=libzmq.so.5 libzstd1=libzstd.so.1 ocl-icd-libopencl1=libOpenCL.so.1
    zlib1g=libz.so.1 libsystemd0=libsystemd.so.0
"""
#: Those that Debian 13 and Ubuntu 24.04 gave another name to, when times got 64 bits on 32-bit machines.
_RENAMED = """
    libaio1 libarchive13 libasound2 libatk-bridge2.0-0 libatk1.0-0 libatspi2.0-0 libcups2 libcurl4
    libevent-2.1-7 libfuse2 libglib2.0-0 libgtk-3-0 libgtk2.0-0 libmagic1 libmpg123-0 libpcap0.8 libpng16-16
    librdmacm1 libreadline8 libssl3 libuv1 libv4l-0 libvips42 libxt6 libzbar0
"""
_PACKAGE_OF = {
    soname: package
    for package, _, sonames in (word.partition("=") for word in _PACKAGES.split())
    for soname in sonames.split(",")
}


def is_debian(release: Mapping[str, str]) -> bool:
    """Whether a system has Debian's packages."""
    return bool({"debian", "ubuntu"} & {release.get("ID", ""), *release.get("ID_LIKE", "").split()})


def packages_of(sonames: Iterable[str], release: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The packages that bring libraries, sorted, and the libraries of which it isn't known.

    Args:
        release: the system's `os_release`.
    """
    renamed = _RENAMED.split() if _has_renamed(release) else []
    found: set[str] = set()
    unknown: list[str] = []
    for soname in sonames:
        package = _PACKAGE_OF.get(soname)
        if package is None:
            unknown.append(soname)
        else:
            found.add(f"{package}t64" if package in renamed else package)
    return sorted(found), unknown


def _has_renamed(release: Mapping[str, str]) -> bool:
    first = {"debian": (13, 0), "ubuntu": (24, 4)}.get(release.get("ID", ""))
    match = re.match(r"(\d+)(?:\.(\d+))?", release.get("VERSION_ID", ""))
    if first is None:
        return False
    # Debian's testing and unstable have no number.
    return match is None or (int(match[1]), int(match[2] or 0)) >= first
