/* host-service/cli/text.h - quantities and foreign bytes as text that is safe to show on a terminal. */
#pragma once

#include <glib.h>
#include <stdint.h>

/* What a guest or a pack calls something, safe to print: control characters, what turns text around, and
 * bytes that are not UTF-8 become \xNN; a backslash is doubled, so that it can be read back. */
char *text_safe(const void *bytes, gsize len);
/* The same for messages of several lines: newlines and tabs stay, backslashes are not doubled. */
char *text_safe_lines(const char *text);

/* "0 B", "999 B", "1.5 KiB", "12.0 GiB": three digits at least where there are any. */
char *text_bytes(uint64_t bytes);
/* "850 us", "12.3 ms", "4.2 s", "3 min 20 s", "2 h 5 min". */
char *text_duration_us(uint64_t us);
/* Local time, "2026-11-22 16:31:05"; "-" for 0. */
char *text_time(int64_t unix_s);

/* "500ms", "60s", "10m", "2h", "1d", "2w", "1m30s"; a bare number is seconds. FALSE with CLI_ERROR_USAGE. */
gboolean text_parse_duration_ms(const char *text, uint64_t max_ms, uint64_t *ret_ms, GError **error);
/* Decimal digits only. @what names it in the error. */
gboolean text_parse_u64(const char *what, const char *text, uint64_t max, uint64_t *ret, GError **error);
