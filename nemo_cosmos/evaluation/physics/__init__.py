"""Does a generated video obey physics? Metrics by the simulator's knowledge of its objects.

Every metric needs ``objects.npz`` beside the true video, as ``nemo-cosmos simulate --scene
physics`` writes it. Objects are found in the generated frames by the colour that they have in the
true ones, and the generated and the true video are measured in the same way.
"""
