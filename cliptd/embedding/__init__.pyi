from . import losses as losses
from .inheritance import inherit_weights as inherit_weights
from .inheritance import shrunk_config as shrunk_config
