"""Does a video show one solid world, seen by the cameras that were asked for?"""
