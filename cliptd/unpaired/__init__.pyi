from .config import SentenceSelection as SentenceSelection
from .images_and_sentences import UnpairedPairs as UnpairedPairs
from .images_and_sentences import load_images as load_images
from .images_and_sentences import load_sentences as load_sentences
from .sentence_selection import select_sentences as select_sentences
