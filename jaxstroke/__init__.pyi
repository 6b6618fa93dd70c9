from jaxstroke.data.study import Study as Study
from jaxstroke.errors import UserError as UserError
from jaxstroke.library import Prediction as Prediction
from jaxstroke.library import Trained as Trained
from jaxstroke.library import load as load
from jaxstroke.library import score as score
from jaxstroke.library import study as study

__version__: str
__all__ = ["Prediction", "Study", "Trained", "UserError", "__version__", "load", "score", "study"]
