from .ensemble import TeacherEnsemble as TeacherEnsemble
from .loading import load_teacher as load_teacher
from .teacher import ImageError as ImageError
from .teacher import Teacher as Teacher
