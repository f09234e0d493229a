from . import embedding as embedding
from . import targeted as targeted
from .adapter.distilled_model import DistilledModel as DistilledModel
from .adapter.distilled_model import wrap as wrap
from .adapter.student_states import StudentStates as StudentStates
from .adapter.teacher_input import TeacherInput as TeacherInput
from .store import LiveSource as LiveSource
from .store import StoreWriter as StoreWriter
from .store import TeacherStore as TeacherStore
from .targeted import DistillationCollator as DistillationCollator
from .targeted import TargetedDistillationConfig as TargetedDistillationConfig
from .teachers import Teacher as Teacher
from .teachers import TeacherEnsemble as TeacherEnsemble
from .teachers import load_teacher as load_teacher

__version__: str
