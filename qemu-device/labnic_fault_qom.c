/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a tester sets faults: properties of the device, for qom-set and qom-get.
 *
 *     fault        {"kind": "tx-withhold", "queue": 0, "count": 0} sets one
 *     faults       what is set, with what each has seen and struck
 *     fault-clear  an id out of faults, or -1 for all
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "labnic.h"

/* Bits of LabnicFaultForm.takes */
#define LABNIC_TAKES_QUEUE 1
#define LABNIC_TAKES_MISC 2
#define LABNIC_TAKES_REGISTER 4
#define LABNIC_LASTING 8

/* How an argument stands to a kind */
enum { LABNIC_VALUE_NONE, LABNIC_VALUE_OPTIONAL, LABNIC_VALUE_REQUIRED };

typedef struct LabnicFaultForm {
    const char *name;
    unsigned takes;
    unsigned value;
    int64_t value_min;
    int64_t value_max;
    int64_t value_default;
} LabnicFaultForm;

static const LabnicFaultForm labnic_fault_forms[] = {
#define X(ID, name, takes, value, min, max, default) \
    { name, takes, value, min, max, default },
    LABNIC_FAULTS(X)
#undef X
};

QEMU_BUILD_BUG_ON(ARRAY_SIZE(labnic_fault_forms) != LABNIC_N_FAULTS);

const char *labnic_fault_name(enum labnic_fault_kind kind)
{
    return labnic_fault_forms[kind].name;
}

static bool labnic_fault_find_kind(const char *name, LabnicFault *f,
                                   Error **errp)
{
    g_autoptr(GString) names = g_string_new("");

    for (unsigned i = 0; i < LABNIC_N_FAULTS; i++) {
        if (!strcmp(name, labnic_fault_forms[i].name)) {
            f->kind = i;
            return true;
        }
        g_string_append_printf(names, "%s%s", i ? ", " : "",
                               labnic_fault_forms[i].name);
    }
    error_setg(errp, "labnic: there is no fault '%s'; there are: %s", name,
               names->str);
    return false;
}

/* Visits a number that may be absent; refuses one outside of min to max */
static bool labnic_fault_number(Visitor *v, const char *name, int64_t min,
                                int64_t max, int64_t *number, bool *present,
                                Error **errp)
{
    *present = false;
    visit_optional(v, name, present);
    if (!*present) {
        return true;
    }
    if (!visit_type_int64(v, name, number, errp)) {
        return false;
    }
    if (*number < min || *number > max) {
        error_setg(errp, "labnic: '%s' is %" PRId64 ", it must be %" PRId64
                   " to %" PRId64, name, *number, min, max);
        return false;
    }
    return true;
}

static bool labnic_fault_refuse(const char *kind, const char *name,
                                Error **errp)
{
    error_setg(errp, "labnic: fault '%s' takes no '%s'", kind, name);
    return false;
}

/* Which queue, or which vector */
static bool labnic_fault_visit_target(LabnicState *s, Visitor *v,
                                      const LabnicFaultForm *form,
                                      LabnicFault *f, Error **errp)
{
    int64_t queue;
    bool present, misc = false;

    if (!labnic_fault_number(v, "queue", 0, s->num_queues - 1, &queue,
                             &present, errp)) {
        return false;
    }
    f->queue = present ? queue : LABNIC_FAULT_ANY;
    if (present && !(form->takes & LABNIC_TAKES_QUEUE)) {
        return labnic_fault_refuse(form->name, "queue", errp);
    }
    visit_optional(v, "misc", &misc);
    if (misc && !visit_type_bool(v, "misc", &misc, errp)) {
        return false;
    }
    if (!misc) {
        return true;
    }
    if (!(form->takes & LABNIC_TAKES_MISC)) {
        return labnic_fault_refuse(form->name, "misc", errp);
    }
    if (present) {
        error_setg(errp, "labnic: a fault is about a 'queue' or about 'misc'");
        return false;
    }
    f->queue = LABNIC_FAULT_MISC;
    return true;
}

/* Which of the events */
static bool labnic_fault_visit_events(Visitor *v, const LabnicFaultForm *form,
                                      LabnicFault *f, Error **errp)
{
    int64_t after = 0, chance = LABNIC_FAULT_CHANCE_ALL, seed = 0;
    int64_t count = form->takes & LABNIC_LASTING ? 0 : 1;
    bool present;

    if (!labnic_fault_number(v, "after", 0, UINT32_MAX, &after, &present,
                             errp) ||
        !labnic_fault_number(v, "count", 0, UINT32_MAX, &count, &present,
                             errp) ||
        !labnic_fault_number(v, "chance", 1, LABNIC_FAULT_CHANCE_ALL, &chance,
                             &present, errp) ||
        !labnic_fault_number(v, "seed", 0, UINT32_MAX, &seed, &present, errp)) {
        return false;
    }
    if (count && form->takes & LABNIC_LASTING) {
        error_setg(errp, "labnic: fault '%s' lasts until it is cleared: its "
                   "'count' can be nothing but 0", form->name);
        return false;
    }
    f->after = after;
    f->count = count;
    f->chance = chance;
    f->seed = seed;
    return true;
}

static bool labnic_fault_visit_value(LabnicState *s, Visitor *v,
                                     const LabnicFaultForm *form,
                                     LabnicFault *f, Error **errp)
{
    int64_t reg = 0;
    bool present;

    f->value = form->value_default;
    if (form->value == LABNIC_VALUE_NONE) {
        visit_optional(v, "value", &present);
        if (present) {
            return labnic_fault_refuse(form->name, "value", errp);
        }
    } else if (!labnic_fault_number(v, "value", form->value_min,
                                    form->value_max, &f->value, &present,
                                    errp)) {
        return false;
    } else if (!present && form->value == LABNIC_VALUE_REQUIRED) {
        error_setg(errp, "labnic: fault '%s' needs a 'value'", form->name);
        return false;
    }

    if (!labnic_fault_number(v, "register", 0, LABNIC_BAR_REGS_SIZE - 4, &reg,
                             &present, errp)) {
        return false;
    }
    if (present != !!(form->takes & LABNIC_TAKES_REGISTER)) {
        error_setg(errp, "labnic: fault '%s' %s a 'register'", form->name,
                   present ? "takes no" : "needs the offset of");
        return false;
    }
    if (reg % 4) {
        error_setg(errp, "labnic: 'register' is %" PRId64 ", it must be a "
                   "multiple of 4", reg);
        return false;
    }
    f->reg = reg;
    return true;
}

static bool labnic_fault_visit(LabnicState *s, Visitor *v, LabnicFault *f,
                               Error **errp)
{
    g_autofree char *kind = NULL;
    const LabnicFaultForm *form;

    if (!visit_type_str(v, "kind", &kind, errp) ||
        !labnic_fault_find_kind(kind, f, errp)) {
        return false;
    }
    form = &labnic_fault_forms[f->kind];
    return labnic_fault_visit_target(s, v, form, f, errp) &&
           labnic_fault_visit_events(v, form, f, errp) &&
           labnic_fault_visit_value(s, v, form, f, errp) &&
           visit_check_struct(v, errp);
}

static bool labnic_fault_room(const LabnicState *s, Error **errp)
{
    if (!DEVICE(s)->realized) {
        error_setg(errp, "labnic: faults are set when the device is there");
        return false;
    }
    for (unsigned i = 0; i < LABNIC_FAULTS_MAX; i++) {
        if (!s->faults.list[i].id) {
            return true;
        }
    }
    error_setg(errp, "labnic: %d faults are set, there is room for no more",
               LABNIC_FAULTS_MAX);
    return false;
}

static void labnic_fault_set(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
{
    LabnicState *s = LABNIC(obj);
    LabnicFault fault = { };
    bool good;

    if (!visit_start_struct(v, name, NULL, 0, errp)) {
        return;
    }
    good = labnic_fault_room(s, errp) && labnic_fault_visit(s, v, &fault, errp);
    visit_end_struct(v, NULL);
    if (good) {
        labnic_fault_add(s, &fault);
    }
}

static bool labnic_fault_put(Visitor *v, const char *name, int64_t number,
                             Error **errp)
{
    return visit_type_int64(v, name, &number, errp);
}

/* One fault in the list; the arguments that its kind does not have are left */
static bool labnic_fault_put_one(Visitor *v, const LabnicFault *f, Error **errp)
{
    const LabnicFaultForm *form = &labnic_fault_forms[f->kind];
    char *kind = (char *)form->name;
    bool misc = true;

    return visit_type_str(v, "kind", &kind, errp) &&
           labnic_fault_put(v, "id", f->id, errp) &&
           (f->queue < 0 || labnic_fault_put(v, "queue", f->queue, errp)) &&
           (f->queue != LABNIC_FAULT_MISC ||
            visit_type_bool(v, "misc", &misc, errp)) &&
           labnic_fault_put(v, "after", f->after, errp) &&
           labnic_fault_put(v, "count", f->count, errp) &&
           labnic_fault_put(v, "chance", f->chance, errp) &&
           labnic_fault_put(v, "seed", f->seed, errp) &&
           (form->value == LABNIC_VALUE_NONE ||
            labnic_fault_put(v, "value", f->value, errp)) &&
           (!(form->takes & LABNIC_TAKES_REGISTER) ||
            labnic_fault_put(v, "register", f->reg, errp)) &&
           labnic_fault_put(v, "seen", f->seen, errp) &&
           labnic_fault_put(v, "hits", f->hits, errp);
}

static void labnic_fault_get_list(Object *obj, Visitor *v, const char *name,
                                  void *opaque, Error **errp)
{
    LabnicState *s = LABNIC(obj);
    bool good = true;

    if (!visit_start_list(v, name, NULL, 0, errp)) {
        return;
    }
    for (unsigned i = 0; good && i < LABNIC_FAULTS_MAX; i++) {
        if (!s->faults.list[i].id) {
            continue;
        }
        good = visit_start_struct(v, NULL, NULL, 0, errp);
        if (good) {
            good = labnic_fault_put_one(v, &s->faults.list[i], errp);
            visit_end_struct(v, NULL);
        }
    }
    visit_end_list(v, NULL);
}

static void labnic_fault_set_clear(Object *obj, Visitor *v, const char *name,
                                   void *opaque, Error **errp)
{
    LabnicState *s = LABNIC(obj);
    bool found = false;
    int64_t id;

    if (!visit_type_int64(v, name, &id, errp)) {
        return;
    }
    for (unsigned i = 0; i < LABNIC_FAULTS_MAX; i++) {
        LabnicFault *f = &s->faults.list[i];

        if (f->id && (id == -1 || id == f->id)) {
            labnic_fault_clear(s, f);
            found = true;
        }
    }
    if (!found && id != -1) {
        error_setg(errp, "labnic: no fault has the id %" PRId64 "; 'faults' "
                   "lists them, -1 clears all", id);
    }
}

void labnic_fault_class_init(ObjectClass *klass)
{
    object_class_property_add(klass, "fault", "LabnicFault", NULL,
                              labnic_fault_set, NULL, NULL);
    object_class_property_set_description(klass, "fault", "Sets one fault");
    object_class_property_add(klass, "faults", "LabnicFaultList",
                              labnic_fault_get_list, NULL, NULL, NULL);
    object_class_property_set_description(klass, "faults",
                                          "The faults that are set");
    object_class_property_add(klass, "fault-clear", "int", NULL,
                              labnic_fault_set_clear, NULL, NULL);
    object_class_property_set_description(klass, "fault-clear",
                                          "Clears the fault of this id, "
                                          "or all with -1");
}
