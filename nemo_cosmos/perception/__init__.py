"""Networks with given weights that guards, curation, metrics and losses share.

Each network is loaded by a function ``load_*`` and has a ``name`` and a ``version``, which are
recorded with whatever it computes. The weights come from :mod:`nemo_cosmos.assets` unless a path is
given. Nothing here is trained, and nothing here knows what its features are used for.

=====================  ==========================================================================
``efficientnet_lite``  image features and ImageNet classes
``encoders``           frames to features, by EfficientNet-lite0 or a model of ``transformers``
``zero_shot``          which of some texts a clip fits, by CLIP
``sentence``           texts to features, by MiniLM
``lpips``              feature maps of VGG16 and AlexNet, and the LPIPS distance
``inception``          features of frames for FID
``i3d``                logits of clips for FVD
``flow``               motion between frames, by OpenCV
``onnx``               the one place that opens ONNX files
``torchscript``        reads the tensors of a TorchScript file without running its program
``weights``            reads weights of other projects without running code in them
=====================  ==========================================================================
"""

#: Name of the image network whose weights a package carries.
EMBEDDED = "efficientnet-lite0"
