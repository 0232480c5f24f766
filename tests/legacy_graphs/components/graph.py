"""The graph of the first machine: the workers run elsewhere, so no link leads to them."""

from components.frontend import Frontend
from components.processor import Processor

Frontend.link(Processor)
