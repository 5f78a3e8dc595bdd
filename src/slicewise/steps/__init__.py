"""The pipeline in order, on one screen. Each module binds one call into the domain to the engine."""

from slicewise.config.schema import Config
from slicewise.pipeline.step import Step, check_order
from slicewise.steps.demo import DEMO
from slicewise.steps.download import DOWNLOAD
from slicewise.steps.evaluate import EVALUATE
from slicewise.steps.preprocess import PREPROCESS
from slicewise.steps.split import SPLIT
from slicewise.steps.train import TRAIN_CLS_HEAD, TRAIN_JOINT, TRAIN_SEG_WARMUP

STEPS: tuple[Step[Config], ...] = (
    DOWNLOAD,  #          data sets on disk, found, checked and listed
    PREPROCESS,  #        volumes and pictures -> normalised slices
    SPLIT,  #             patients -> train, val, test
    TRAIN_SEG_WARMUP,  #  encoder and decoder learn the mask
    TRAIN_CLS_HEAD,  #    the classification head learns on the frozen encoder
    TRAIN_JOINT,  #       everything learns
    EVALUATE,  #          metrics, figures, Grad-CAM, comparison of the three stages
    DEMO,  #              API and page
)
check_order(STEPS)
