"""The commands that train and measure: pretrain, finetune, plan, evaluate."""
