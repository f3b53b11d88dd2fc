/* tests/fuzz/fuzz_qmp.c - whatever a monitor socket says: lines, messages, and the survey made of them. */
#include <stdint.h>
#include <stdlib.h>

#include "host-service/hypervisor/qmp_message.h"
#include "host-service/hypervisor/backing_files.h"
#include "host-service/hypervisor/window_survey.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        g_autoptr(QmpLines) lines = qmp_lines_new();
        struct survey survey = {0};
        size_t cut = size ? data[0] % size : 0;
        char *text;
        gsize len;

        if (!qmp_lines_push(lines, (const char *)data, cut, NULL) ||
            !qmp_lines_push(lines, (const char *)data + cut, size - cut, NULL))
                return 0;
        while ((text = qmp_lines_pull(lines, &len))) {
                g_autofree char *line = text;
                g_autoptr(QmpMessage) m = qmp_message_parse(line, len, NULL);

                if (!m || !m->data)
                        continue;
                survey_add_objects(&survey, m->data);
                survey_add_peripherals(&survey, m->data);
                survey_add_pci(&survey, m->data);
                g_strfreev(backing_files_of(m->data));
        }
        if (survey_choose_port(&survey, UINT64_C(1) << 28) && survey.n_ports == 0)
                abort();
        survey_clear(&survey);
        return 0;
}
