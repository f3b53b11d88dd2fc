/* guest-agent/upgrade/pace.c - giving way to the guest's own disk work. */
#include "guest-agent/upgrade/pace.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "common/fd.h"

#define PRESSURE_HIGH_PERCENT 20.0
#define LOOK_AGAIN_MS         100
#define LOOKS_MAX             10

double pace_parse_pressure(const char *text)
{
        static const char key[] = "some avg10=";
        if (!g_str_has_prefix(text, key))
                return -1;
        char *end;
        double value = g_ascii_strtod(text + strlen(key), &end);
        return end != text + strlen(key) && *end == ' ' && value >= 0 ? value : -1;
}

static gboolean disk_is_pressed(void)
{
        g_autoptr(GBytes) b = fd_read_file_at(AT_FDCWD, "/proc/pressure/io", 4096, NULL);
        if (b == NULL) /* a kernel without PSI: no pacing */
                return FALSE;
        gsize len;
        const char *data = g_bytes_get_data(b, &len);
        g_autofree char *text = g_strndup(data != NULL ? data : "", len);
        return pace_parse_pressure(text) > PRESSURE_HIGH_PERCENT;
}

void pace_wait(GCancellable *cancellable)
{
        for (int i = 0; i < LOOKS_MAX && disk_is_pressed(); i++) {
                GPollFD cancel;
                if (!g_cancellable_make_pollfd(cancellable, &cancel)) {
                        (void)poll(NULL, 0,
                                   LOOK_AGAIN_MS); /* nothing can wake us: only the pressure matters */
                        continue;
                }
                gint ready = g_poll(&cancel, 1, LOOK_AGAIN_MS);
                g_cancellable_release_fd(cancellable);
                if (ready > 0)
                        return;
        }
}
