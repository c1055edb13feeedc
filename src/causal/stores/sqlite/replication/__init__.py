"""How sites come to hold the same: logs applied in order, states merged, sites that come and go, and what may be forgotten."""
