"""Generated brain-tumour MRI with real anatomy (MNI152), in the layouts of BraTS and of Kaggle pictures."""

from slicewise.data.phantom.patient import PhantomPatient, generate_patient, patient_name, write_patient
from slicewise.data.phantom.pictures import write_pictures

__all__ = ["PhantomPatient", "generate_patient", "patient_name", "write_patient", "write_pictures"]
