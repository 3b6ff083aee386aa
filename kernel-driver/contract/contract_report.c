// SPDX-License-Identifier: GPL-2.0-only
/* The files in debugfs: what to watch, and what was seen. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>
#include <linux/uaccess.h>
#include <linux/utsname.h>

#include "contract.h"
#include "contract_compat.h"

/*
 * A number for programs that read the files: raised when words change their
 * meaning, not when new ones come.
 */
#define NC_FORMAT	1

#define NC_COMMAND	64

static struct dentry *folder;

static const char * const work_names[] = { "none", "part", "full" };

/* Names with their counts, those from ``first`` to before ``end``. */
static void nc_show_state(struct seq_file *seq, const char *word,
			  const struct nc_seen *seen, int first, int end)
{
	const char *separator = "";
	long count;
	int bit;

	seq_printf(seq, " %s=", word);
	for (bit = first; bit < end; bit++) {
		count = atomic_long_read(&seen->state[bit]);
		if (!count)
			continue;
		seq_printf(seq, "%s%s:%ld", separator, nc_state_names[bit],
			   count);
		separator = ",";
	}
}

static void nc_show_returns(struct seq_file *seq, enum nc_kind kind,
			    const struct nc_seen *seen)
{
	const char *separator = "";
	long count, value;
	int i;

	seq_puts(seq, " returns=");
	for (i = 0; i < NC_RETURNS; i++) {
		count = atomic_long_read(&seen->returns[i].count);
		value = seen->returns[i].value;
		if (!count)
			continue;
		if (kind == NC_POLL)
			seq_printf(seq, "%s%s:%ld", separator,
				   work_names[value], count);
		else
			seq_printf(seq, "%s%ld:%ld", separator, value, count);
		separator = ",";
	}
	count = atomic_long_read(&seen->other_returns);
	if (count)
		seq_printf(seq, "%sother:%ld", separator, count);
}

static void nc_show_rule(struct seq_file *seq, const struct nc_dev *nd,
			 enum nc_kind kind, enum nc_rule rule)
{
	const struct nc_seen *seen = &nd->seen[kind];

	seq_printf(seq, "rule=%s dev=%s driver=%s callback=%s witness=%s",
		   nc_rule_names[rule], nd->name,
		   nd->driver[0] ? nd->driver : "-", nc_callbacks[kind].name,
		   nc_context_witness());
	seq_printf(seq, " calls=%ld judged=%ld violations=%ld own=%ld",
		   atomic_long_read(&seen->calls),
		   atomic_long_read(&seen->judged[rule]),
		   atomic_long_read(&seen->violated[rule]),
		   atomic_long_read(&seen->own[rule]));
	nc_show_state(seq, "contexts", seen, 0, NC_FIRST_LOCK);
	nc_show_state(seq, "locks", seen, NC_FIRST_LOCK, NC_STATE_BITS);
	nc_show_returns(seq, kind, seen);
	seq_putc(seq, '\n');
}

static void nc_show_dev(struct seq_file *seq, const struct nc_dev *nd)
{
	enum nc_kind kind;
	enum nc_rule rule;

	for (kind = 0; kind < NC_KINDS; kind++) {
		u64 rules = nc_rules_of(&nc_callbacks[kind]);

		if (!nd->seen[kind].there)
			continue;
		for (rule = NC_NO_RULE + 1; rule < NC_RULES; rule++)
			if (rules & BIT_ULL(rule))
				nc_show_rule(seq, nd, kind, rule);
	}
}

/*
 * X8: the kernel has no such name any more, or this would not compile. A
 * macro of that name would change the enumerator, which is as good.
 */
enum { NETDEV_TX_LOCKED = -1 };

/* Rules that no probe judges, and why. */
static void nc_show_others(struct seq_file *seq)
{
	seq_printf(seq, "rule=X8 dev=- driver=- callback=- witness=compiler calls=0 judged=1 violations=%d own=0 contexts= locks= returns= why=the-name-is-gone\n",
		   NETDEV_TX_LOCKED != -1);
	seq_puts(seq, "rule=X3 dev=- driver=- callback=- witness=none calls=0 judged=0 violations=0 own=0 contexts= locks= returns= why=the-filter-is-judged-by-packets\n");
	seq_printf(seq, "rule=N5 dev=- driver=- callback=- witness=none calls=0 judged=0 violations=0 own=0 contexts= locks= returns= why=%s\n",
		   NC_HAS_OPS_LOCK ? "not-judged" : "not-in-this-kernel");
}

static int report_show(struct seq_file *seq, void *data)
{
	const struct nc_dev *nd;

	rtnl_lock();
	seq_printf(seq, "format=%d kernel=%s lockdep=%d", NC_FORMAT,
		   utsname()->release, NC_LOCKDEP);
	nc_probes_show(seq);
	seq_putc(seq, '\n');
	list_for_each_entry(nd, &nc_devs, list)
		nc_show_dev(seq, nd);
	nc_show_others(seq);
	rtnl_unlock();
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(report);

static void nc_show_context(struct seq_file *seq, unsigned long state)
{
	const char *separator = "";
	unsigned int bit;

	for_each_set_bit(bit, &state, NC_STATE_BITS) {
		seq_printf(seq, "%s%s", separator, nc_state_names[bit]);
		separator = ",";
	}
}

static void nc_show_violation(struct seq_file *seq, const struct nc_dev *nd,
			      const struct nc_violation *v)
{
	unsigned int i;

	seq_printf(seq, "rule=%s dev=%s driver=%s callback=%s own=%d count=%lu value=%ld pid=%d cpu=%d contexts=",
		   nc_rule_names[v->rule], nd->name,
		   nd->driver[0] ? nd->driver : "-",
		   nc_callbacks[v->kind].name, v->own, v->count, v->value,
		   v->pid, v->cpu);
	nc_show_context(seq, v->state);
	seq_printf(seq, "\n text %s\n task %s\n", v->text, v->task);
	for (i = 0; i < v->depth; i++) {
		if (v->names[i][0])
			seq_printf(seq, " stack %s\n", v->names[i]);
		else
			seq_printf(seq, " stack %pS\n", (void *)v->stack[i]);
	}
}

static int violations_show(struct seq_file *seq, void *data)
{
	const struct nc_dev *nd;
	unsigned int i;

	rtnl_lock();
	list_for_each_entry(nd, &nc_devs, list) {
		for (i = 0; i < nd->violations_kept; i++)
			nc_show_violation(seq, nd, &nd->violations[i]);
		if (nd->violations_lost)
			seq_printf(seq, "lost dev=%s count=%lu\n", nd->name,
				   nd->violations_lost);
	}
	rtnl_unlock();
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(violations);

/* One line of up to three words, without the space around it. */
static ssize_t nc_command(char *line, const char __user *from, size_t count,
			  char **words)
{
	char *rest;
	int n = 0;

	if (count >= NC_COMMAND)
		return -EINVAL;
	if (copy_from_user(line, from, count))
		return -EFAULT;
	line[count] = 0;
	rest = strim(line);
	while (n < 3 && (words[n] = strsep(&rest, " \t")))
		if (*words[n])
			n++;
	return n;
}

static ssize_t nc_refuse(const char *file, const char *wanted)
{
	pr_err("%s: not understood; write %s\n", file, wanted);
	return -EINVAL;
}

static ssize_t attach_write(struct file *file, const char __user *from,
			    size_t count, loff_t *at)
{
	static const char wanted[] = "\"dev NAME\" or \"driver NAME\"";
	char line[NC_COMMAND], *words[3];
	ssize_t n = nc_command(line, from, count, words);
	int err;

	if (n == -EFAULT)
		return n;
	if (n == 2 && !strcmp(words[0], "dev"))
		err = nc_attach_dev(words[1]);
	else if (n == 2 && !strcmp(words[0], "driver"))
		err = nc_attach_driver(words[1]);
	else
		return nc_refuse("attach", wanted);
	return err ?: count;
}

static int attach_show(struct seq_file *seq, void *data)
{
	nc_show_attached(seq);
	return 0;
}

static int attach_open(struct inode *inode, struct file *file)
{
	return single_open(file, attach_show, NULL);
}

static const struct file_operations attach_fops = {
	.owner = THIS_MODULE,
	.open = attach_open,
	.read = seq_read,
	.write = attach_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static ssize_t detach_write(struct file *file, const char __user *from,
			    size_t count, loff_t *at)
{
	static const char wanted[] = "\"all\", \"dev NAME\" or \"driver NAME\"";
	char line[NC_COMMAND], *words[3];
	ssize_t n = nc_command(line, from, count, words);
	bool known;
	int err;

	if (n == -EFAULT)
		return n;
	known = (n == 1 && !strcmp(words[0], "all")) ||
		(n == 2 && (!strcmp(words[0], "dev") ||
			    !strcmp(words[0], "driver")));
	if (!known)
		return nc_refuse("detach", wanted);
	err = nc_detach(words[0], words[1]);
	return err ?: count;
}

static const struct file_operations detach_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = detach_write,
};

static ssize_t clear_write(struct file *file, const char __user *from,
			   size_t count, loff_t *at)
{
	char line[NC_COMMAND], *words[3];
	ssize_t n = nc_command(line, from, count, words);
	struct nc_dev *nd;

	if (n == -EFAULT)
		return n;
	if (n != 1 || strcmp(words[0], "1"))
		return nc_refuse("clear", "\"1\"");
	rtnl_lock();
	list_for_each_entry(nd, &nc_devs, list)
		nc_clear(nd);
	rtnl_unlock();
	return count;
}

static const struct file_operations clear_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = clear_write,
};

int nc_report_init(void)
{
	folder = debugfs_create_dir(KBUILD_MODNAME, NULL);
	if (IS_ERR(folder)) {
		pr_err("no folder in debugfs: %ld\n", PTR_ERR(folder));
		return PTR_ERR(folder);
	}
	debugfs_create_file("attach", 0600, folder, NULL, &attach_fops);
	debugfs_create_file("detach", 0200, folder, NULL, &detach_fops);
	debugfs_create_file("report", 0400, folder, NULL, &report_fops);
	debugfs_create_file("violations", 0400, folder, NULL,
			    &violations_fops);
	debugfs_create_file("clear", 0200, folder, NULL, &clear_fops);
	return 0;
}

void nc_report_exit(void)
{
	debugfs_remove_recursive(folder);
}
