"""One classifier behind other servers, each as its own documentation has it. They import nothing of Smol."""
