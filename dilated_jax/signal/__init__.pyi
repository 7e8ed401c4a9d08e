from . import audio as audio, wavelets as wavelets, wavenet as wavenet
