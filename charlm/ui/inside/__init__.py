"""The Inside tab: the path of one character through the network, up to the next one."""
