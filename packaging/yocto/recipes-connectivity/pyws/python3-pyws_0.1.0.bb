# SPDX-License-Identifier: MIT
SUMMARY = "WebSocket and HTTP server for Python"
SECTION = "devel/python"

require pyws.inc

DEPENDS += "zlib"

SRC_URI = ""

inherit python3-dir

# Its library contains what only Python needs, and lies apart from that of pyws.
EXTRA_OEMESON = "\
    --libdir ${baselib}/pyws \
    -Dpython=system \
    -Ddeflate=enabled \
    -Dtests=false \
    -Dtools=false \
"
# nooelint: oelint.vars.mispell.unknown
MESON_INSTALL_TAGS = "runtime,python-runtime"

FILES:${PN} += "${libdir}/pyws ${PYTHON_SITEPACKAGES_DIR}/pyws"

RDEPENDS:${PN} = "\
    python3-asyncio \
    python3-core \
    python3-ctypes \
    python3-datetime \
    python3-difflib \
    python3-json \
    python3-logging \
    python3-math \
    python3-netclient \
    python3-numbers \
    python3-threading \
"

# nooelint: oelint.vars.mispell.unknown
PRIVATE_LIBS:${PN} = "libpyws.so.0 libpyws_openssl.so.0"
