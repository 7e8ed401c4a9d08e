from . import onnx as onnx, stablehlo as stablehlo
