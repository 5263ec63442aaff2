################################################################################
#
# python-pyws
#
################################################################################

PYTHON_PYWS_VERSION = 0.1.0
# The sources that this external tree is a part of
PYTHON_PYWS_SITE = $(BR2_EXTERNAL_PYWS_PATH)/../..
PYTHON_PYWS_SITE_METHOD = local
PYTHON_PYWS_LICENSE = MIT
PYTHON_PYWS_LICENSE_FILES = LICENSE
PYTHON_PYWS_DEPENDENCIES = host-pkgconf python3 zlib
# Its library contains what only Python needs, and lies apart from that of pyws.
PYTHON_PYWS_CONF_OPTS = \
	--libdir=lib/pyws \
	-Dpython=system \
	-Ddeflate=enabled \
	-Dtests=false \
	-Dtools=false

define PYTHON_PYWS_INSTALL_TARGET_CMDS
	$(TARGET_MAKE_ENV) DESTDIR=$(TARGET_DIR) $(MESON) install --no-rebuild \
		-C $(@D)/buildroot-build --tags runtime,python-runtime
endef

$(eval $(meson-package))
