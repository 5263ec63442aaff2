################################################################################
#
# python-pyws
#
################################################################################

PYTHON_PYWS_VERSION = 0.1.0
PYTHON_PYWS_SITE = $(BR2_EXTERNAL_PYWS_PATH)/../..
PYTHON_PYWS_SITE_METHOD = local
PYTHON_PYWS_LICENSE = MIT
PYTHON_PYWS_LICENSE_FILES = LICENSE
PYTHON_PYWS_DEPENDENCIES = host-pkgconf python3 zlib
PYTHON_PYWS_CONF_OPTS = -Dpython=system -Ddeflate=enabled -Dtests=false -Dtools=false

$(eval $(meson-package))
