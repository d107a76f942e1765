"""The networks of LPIPS: feature maps, and the distance of two frames that they give."""
