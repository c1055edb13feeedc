"""Tries everything that the shop shows, over real HTTP, as it is and with each part left out."""
