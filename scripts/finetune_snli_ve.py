"""Fine-tune a vision-language model on SNLI-VE, with CLIP-targeted distillation."""

from tasks.commands.finetune_snli_ve import main

if __name__ == "__main__":
    main()
