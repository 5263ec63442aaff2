SUMMARY = "WebSocket and HTTP server library"
DESCRIPTION = "WebSocket (RFC 6455, RFC 7692) and HTTP server as a small C library on epoll."
HOMEPAGE = "https://pyws-server.readthedocs.io/"
BUGTRACKER = "https://pyws-server.readthedocs.io/"
SECTION = "libs"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://LICENSE;md5=a453ab5c9c3a6b91e6654dd42aa19cc1"

# The checkout that this layer is a part of. For a release:
# SRC_URI = "https://files.pythonhosted.org/packages/source/p/pyws-server/pyws_server-${PV}.tar.gz"
inherit externalsrc meson pkgconfig ptest
EXTERNALSRC = "${THISDIR}/../../../.."

PACKAGECONFIG ??= "deflate"
PACKAGECONFIG[deflate] = "-Ddeflate=enabled,-Ddeflate=disabled,zlib"
PACKAGECONFIG[openssl] = "-Dtls=openssl,,openssl"

EXTRA_OEMESON = "-Dpython=none -Dtools=false ${@bb.utils.contains('PTEST_ENABLED', '1', '-Dtests=true', '-Dtests=false', d)}"
