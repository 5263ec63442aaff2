################################################################################
#
# python-pyws
#
################################################################################

PYTHON_PYWS_VERSION = 0.1.0
# The sources that this external tree is a part of
PYTHON_PYWS_SITE = $(BR2_EXTERNAL_PYWS_PATH)/../..
PYTHON_PYWS_SITE_METHOD = local
# What was built in the checkout is for another machine.
PYTHON_PYWS_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude '/build*'
PYTHON_PYWS_LICENSE = MIT
PYTHON_PYWS_LICENSE_FILES = LICENSE
PYTHON_PYWS_DEPENDENCIES = host-pkgconf python3 zlib
# Its library contains what only Python needs, and lies apart from that of pyws.
# Buildroot compiles the modules itself, if BR2_PACKAGE_PYTHON3_PY_ONLY is not set.
PYTHON_PYWS_CONF_OPTS = \
	--libdir=lib/pyws \
	-Dpython=system \
	-Dpython.bytecompile=-1 \
	-Ddeflate=enabled \
	-Dtests=false \
	-Dtools=false

# Until Buildroot 2025.02.3, the folder of the build is build/.
define PYTHON_PYWS_INSTALL_TARGET_CMDS
	$(TARGET_MAKE_ENV) DESTDIR=$(TARGET_DIR) $(MESON) install --no-rebuild \
		-C $(firstword $(wildcard $(@D)/buildroot-build $(@D)/build)) \
		--tags runtime,python-runtime
endef

$(eval $(meson-package))
