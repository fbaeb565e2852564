"""The methods, by name. A plain dict: what is not in it does not exist."""

from vitascope.methods.cbp_vlp.method import CbpVlp
from vitascope.methods.classifier.method import Classifier
from vitascope.methods.hico.method import HiCo
from vitascope.methods.mme.method import MME
from vitascope.methods.stm.method import STM

METHODS = {"mme": MME, "hico": HiCo, "classifier": Classifier, "stm": STM, "cbp_vlp": CbpVlp}
