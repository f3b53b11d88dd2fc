/* guest-agent/memory.h - an idle agent holds next to nothing. */
#pragma once

/* Gives back what a start or a push needed: free heap, and the program text that was run once. */
void memory_trim(void);
