# SPDX-License-Identifier: MIT
SUMMARY = "WebSocket and HTTP server library"
SECTION = "libs"

require pyws.inc

SRC_URI = "file://run-ptest"

inherit ptest

PACKAGECONFIG ??= "deflate"
PACKAGECONFIG[deflate] = "-Ddeflate=enabled,-Ddeflate=disabled,zlib"
PACKAGECONFIG[openssl] = ",,openssl"
PACKAGECONFIG[mbedtls] = ",,mbedtls"

TLS = "${@','.join(bb.utils.filter('PACKAGECONFIG', 'openssl mbedtls', d).split())}"
EXTRA_OEMESON = "\
    -Dpython=none \
    -Dtls=${TLS} \
    -Dtests=${@bb.utils.contains('PTEST_ENABLED', '1', 'true', 'false', d)} \
    -Dtools=false \
"

do_install_ptest() {
    install -d ${D}${PTEST_PATH}/vectors
    find ${B}/tests/c -maxdepth 1 -type f -name 'test_*' -perm -u=x \
        -exec install -m 0755 {} ${D}${PTEST_PATH} \;
    install -m 0644 ${S}/tests/vectors/*.txt ${D}${PTEST_PATH}/vectors
}

# A program that speaks no TLS installs no library for it.
PACKAGE_BEFORE_PN = "${PN}-openssl ${PN}-mbedtls"
FILES:${PN}-openssl += "${libdir}/libpyws_openssl${SOLIBS}"
FILES:${PN}-mbedtls += "${libdir}/libpyws_mbedtls${SOLIBS}"

BBCLASSEXTEND = "native nativesdk"
