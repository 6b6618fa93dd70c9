"""One file a network, each defining `TWIN`; maps are (B, C, H, W)."""
