// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * A provider of configfs-tsm reports without a TEE, for virtual machines that run tests.
 *
 * What is written to /dev/tsm_soft, in one write, is the template of both blobs; its last `aux` bytes are
 * auxblob. Each request copies inblob to `offset` of outblob, and with `sev` the privilege level to 0x30.
 */
#include <linux/delay.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/tsm.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 17, 0)
#define tsm_ops tsm_report_ops
#define tsm_register tsm_report_register
#define tsm_unregister tsm_report_unregister
#endif

#define TEMPLATE_MAX SZ_64K
#define SNP_VMPL 0x30

static char *provider = "tdx_guest";
module_param(provider, charp, 0444);
MODULE_PARM_DESC(provider, "the text of the attribute");
static bool sev;
module_param(sev, bool, 0444);
MODULE_PARM_DESC(sev, "show auxblob and privilege levels, as sev_guest does");
static uint floor_level;
module_param(floor_level, uint, 0444);
MODULE_PARM_DESC(floor_level, "the least privilege level that may be asked for");
static uint offset;
module_param(offset, uint, 0444);
static uint aux;
module_param(aux, uint, 0444);
static uint delay_ms;
module_param(delay_ms, uint, 0444);
static int fail;
module_param(fail, int, 0444);
MODULE_PARM_DESC(fail, "the error, a positive errno, of the first requests");
static uint times;
module_param(times, uint, 0444);
MODULE_PARM_DESC(times, "how many requests fail");

static DEFINE_MUTEX(lock);	/* of the template and of `times` */
static u8 *template;
static size_t template_len;

static ssize_t soft_write(struct file *file, const char __user *from, size_t count, loff_t *pos)
{
	u8 *copy;

	if (count > TEMPLATE_MAX || count < aux)
		return -EINVAL;
	copy = vmemdup_user(from, count);
	if (IS_ERR(copy))
		return PTR_ERR(copy);
	mutex_lock(&lock);
	swap(template, copy);
	template_len = count;
	mutex_unlock(&lock);
	kvfree(copy);
	return count;
}

static const struct file_operations soft_fops = { .owner = THIS_MODULE, .write = soft_write };
static struct miscdevice soft_device = {
	.minor = MISC_DYNAMIC_MINOR, .name = "tsm_soft", .fops = &soft_fops, .mode = 0600,
};

static int soft_fill(struct tsm_report *report)
{
	size_t len = template_len - aux;

	if (times) {
		times--;
		return -fail;
	}
	if (report->desc.privlevel < floor_level)
		return -EINVAL;
	report->outblob = kvmemdup(template, len, GFP_KERNEL);	/* for no bytes an address, not NULL */
	report->auxblob = kvmemdup(template + len, aux, GFP_KERNEL);
	if (!report->outblob || !report->auxblob)
		return -ENOMEM;	/* the next request, or rmdir, frees what there is */
	report->outblob_len = len;
	report->auxblob_len = aux;
	if (len >= offset + report->desc.inblob_len)
		memcpy(report->outblob + offset, report->desc.inblob, report->desc.inblob_len);
	if (sev && len >= SNP_VMPL + sizeof(u32))
		put_unaligned_le32(report->desc.privlevel, report->outblob + SNP_VMPL);
	return 0;
}

static int soft_report_new(struct tsm_report *report, void *data)
{
	int rc;

	if (report->desc.inblob_len != TSM_INBLOB_MAX)
		return -EINVAL;
	msleep(delay_ms);
	mutex_lock(&lock);
	rc = template ? soft_fill(report) : -ENODATA;
	mutex_unlock(&lock);
	return rc;
}

static bool soft_attr_visible(int n)
{
	return n == TSM_REPORT_GENERATION || n == TSM_REPORT_PROVIDER ||
	       (sev && (n == TSM_REPORT_PRIVLEVEL || n == TSM_REPORT_PRIVLEVEL_FLOOR));
}

static bool soft_bin_attr_visible(int n)
{
	return n == TSM_REPORT_INBLOB || n == TSM_REPORT_OUTBLOB || (sev && n == TSM_REPORT_AUXBLOB);
}

static struct tsm_ops soft_ops = {
	.report_new = soft_report_new,
	.report_attr_visible = soft_attr_visible,
	.report_bin_attr_visible = soft_bin_attr_visible,
};

static int __init soft_init(void)
{
	int rc = misc_register(&soft_device);

	if (rc)
		return rc;
	soft_ops.name = provider;
	soft_ops.privlevel_floor = floor_level;
	rc = tsm_register(&soft_ops, NULL);
	if (rc)
		misc_deregister(&soft_device);
	return rc;
}
module_init(soft_init);

static void __exit soft_exit(void)
{
	tsm_unregister(&soft_ops);
	misc_deregister(&soft_device);
	kvfree(template);
}
module_exit(soft_exit);

MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("configfs-tsm reports without a TEE, for tests");
