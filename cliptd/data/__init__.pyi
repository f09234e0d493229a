from .files.jsonl import JsonLines as JsonLines
from .splits import Split as Split
from .splits import holdout_split as holdout_split
from .splits import low_shot_split as low_shot_split
