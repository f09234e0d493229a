from .loading import load_pairs as load_pairs
from .pair import OnBadSample as OnBadSample
from .pair import Pair as Pair
