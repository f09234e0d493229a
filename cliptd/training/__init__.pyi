from .acceleration import make_accelerator as make_accelerator
from .config import TrainingConfig as TrainingConfig
from .log import read_log as read_log
from .loop import TrainingResult as TrainingResult
from .loop import train as train
