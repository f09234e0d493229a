"""Fine-tune a vision-language model on VQA v2 or VQA-CP, with CLIP-targeted distillation."""

from tasks.commands.finetune_vqa import main

if __name__ == "__main__":
    main()
