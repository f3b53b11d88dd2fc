/* host-service/cli/suggest.h - the word that somebody probably meant. */
#pragma once

/* Edits (insert, delete, replace, swap neighbours) between two words. Pure. */
unsigned suggest_distance(const char *a, const char *b);
/* The nearest of @words (NULL-terminated), if it is near enough to be meant; else NULL. */
const char *suggest_word(const char *typed, const char *const *words);
