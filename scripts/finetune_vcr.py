"""Fine-tune a vision-language model on Visual Commonsense Reasoning, with CLIP-targeted distillation."""

from tasks.commands.finetune_vcr import main

if __name__ == "__main__":
    main()
