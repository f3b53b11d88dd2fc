/* host-service/doctor/finding.c - what one check found. */
#include "host-service/doctor/finding.h"

#define NAMES_MAX 10u

const char *doctor_severity_name(DoctorSeverity s)
{
        static const char *const names[DOCTOR_SEVERITY_MAX] = {"ok", "notice", "warning", "error"};

        return names[s];
}

static void finding_free(gpointer data)
{
        DoctorFinding *f = data;

        g_free(f->found);
        g_free(f);
}

GPtrArray *doctor_findings_new(void)
{
        return g_ptr_array_new_with_free_func(finding_free);
}

void doctor_add(GPtrArray *list, const char *id, DoctorSeverity severity, GString *found, const char *action)
{
        DoctorFinding *f = g_new0(DoctorFinding, 1);

        f->id = id;
        f->severity = severity;
        f->found = g_string_free(found, FALSE);
        f->action = action;
        g_ptr_array_add(list, f);
}

void doctor_append_names(GString *found, const GPtrArray *names)
{
        for (guint i = 0; i < names->len && i < NAMES_MAX; i++)
                g_string_append_printf(found, "%s%s", i ? ", " : "", (const char *)names->pdata[i]);
        if (names->len > NAMES_MAX)
                g_string_append_printf(found, " and %u more", names->len - NAMES_MAX);
}
