"""Export both towers of a dual encoder to ONNX, check them against torch and time them: torch, fused, onnxruntime."""

from tasks.commands.export import main

if __name__ == "__main__":
    main()
