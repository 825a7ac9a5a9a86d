"""Pure functions: tensors in, tensors out. Importing this package fills METHODS and PICTURES.

The order of the imports is the order in which the panels are listed everywhere.
"""

from wsolviz.analysis import cam, pc1, decomposition, gradient  # noqa: F401, I001
