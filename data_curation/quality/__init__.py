"""How good a picture is: plain functions, one file a method."""
