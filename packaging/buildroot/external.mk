include $(sort $(wildcard $(BR2_EXTERNAL_PYWS_PATH)/package/*/*.mk))
