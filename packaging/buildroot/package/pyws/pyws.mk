################################################################################
#
# pyws
#
################################################################################

PYWS_VERSION = 0.1.0
# The sources that this external tree is a part of
PYWS_SITE = $(BR2_EXTERNAL_PYWS_PATH)/../..
PYWS_SITE_METHOD = local
# What was built in the checkout is for another machine.
PYWS_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude '/build*'
PYWS_LICENSE = MIT
PYWS_LICENSE_FILES = LICENSE
PYWS_INSTALL_STAGING = YES
PYWS_DEPENDENCIES = host-pkgconf
PYWS_CONF_OPTS = -Dpython=none -Dtests=false -Dtools=false

ifeq ($(BR2_PACKAGE_PYWS_DEFLATE),y)
PYWS_CONF_OPTS += -Ddeflate=enabled
PYWS_DEPENDENCIES += zlib
else
PYWS_CONF_OPTS += -Ddeflate=disabled
endif

ifeq ($(BR2_PACKAGE_PYWS_OPENSSL),y)
PYWS_TLS += openssl
endif

ifeq ($(BR2_PACKAGE_PYWS_MBEDTLS),y)
PYWS_TLS += mbedtls
endif

PYWS_DEPENDENCIES += $(PYWS_TLS)
PYWS_CONF_OPTS += -Dtls=$(subst $(space),$(comma),$(strip $(PYWS_TLS)))
PYWS_CONF_OPTS += $(call qstrip,$(BR2_PACKAGE_PYWS_OPTIONS))

$(eval $(meson-package))
