"""The interface in two languages: English as it stands in the code, Chinese by what stands here.

What documents and models say is not translated; what the library says of them is, where it is known here.
"""

from __future__ import annotations

import re
from functools import cache

import streamlit as st

LANGUAGES = {"en": "English", "zh": "中文"}


def t(text: str, **values: object) -> str:
    """The text in the chosen language, with its {values} put in."""
    told = CHINESE.get(text, text) if language() == "zh" else text
    return told.format(**values) if values else told


def told(sentence: str) -> str:
    """A sentence of the library (a verdict's reason, a note) in the chosen language."""
    if language() != "zh":
        return sentence
    for pattern, chinese in _patterns():
        if found := pattern.fullmatch(sentence):
            return chinese.format(**found.groupdict())
    return sentence


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    return [
        (re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(english))), c) for english, c in SENTENCES.items()
    ]


def language() -> str:
    """What was chosen, else what the browser speaks."""
    chosen = st.session_state.get("language")
    if chosen in LANGUAGES:
        return str(chosen)
    return "zh" if (st.context.locale or "").lower().startswith("zh") else "en"


CHINESE = {
    # -- around every page ---------------------------------------------------------------------------------------------
    "Ask": "提问",
    "Collections": "文档集",
    "Evidence": "证据",
    "Evals": "评测",
    "Settings": "设置",
    "Collection": "文档集",
    "Language": "语言",
    "Ask your documents, and see the exact place that answers.": "向文档提问，并看到答案的确切出处。",
    "Try the demo collection": "试用演示文档集",
    "Five short documents in English and Chinese, drawn on this machine: nothing is downloaded.": (
        "五份中英文短文档，在本机生成，不下载任何内容。"
    ),
    "Start the demo": "开始演示",
    "Use your own documents": "使用自己的文档",
    "PDFs, Office files, e-books, pictures: reports, papers, slides, scans, photos. They stay on this machine.": (
        "PDF、Office 文件、电子书和图片：报告、论文、幻灯片、扫描件、照片，均保留在本机。"
    ),
    "Reading {file}: page {done} of {total}": "正在读取 {file}：第 {done} 页，共 {total} 页",
    "Waiting for another program that writes to this collection …": "等待另一个正在写入此文档集的程序……",
    "{speed} pages a second": "每秒 {speed} 页",
    "about {time} left": "约剩 {time}",
    "Starting …": "正在启动……",
    # -- ask -----------------------------------------------------------------------------------------------------------
    "Ask this collection": "向此文档集提问",
    "New conversation": "新对话",
    "Export": "导出",
    "As Markdown": "Markdown 格式",
    "As a page with pictures (HTML)": "带页面图像的网页（HTML）",
    "Only in these documents": "仅限这些文档",
    "All documents": "全部文档",
    "Asked as: {question}": "实际提问：{question}",
    "Ask it as typed": "按原文提问",
    "Looking …": "正在查找……",
    "You could ask:": "可以这样问：",
    "The documents do not answer this.": "文档中没有答案。",
    "Nearest places": "最接近的位置",
    "Copy": "复制",
    "Copied": "已复制",
    "{share} sure": "把握 {share}",
    "How likely the cited region holds what was asked for": "引用区域包含所问内容的概率",
    "How likely the cited page answers": "引用页面回答问题的概率",
    "no source": "无出处",
    "supported": "有依据",
    "partly": "部分有依据",
    "unsupported": "无依据",
    "contradicted": "与原文矛盾",
    "unchecked": "未核查",
    "Source {number}: {document}, page {page}": "出处 {number}：{document}，第 {page} 页",
    "{document}, page {page}": "{document}，第 {page} 页",
    "Zoom in": "放大",
    "Zoom out": "缩小",
    "Whole page": "整页",
    "Close": "关闭",
    "Previous source": "上一出处",
    "Next source": "下一出处",
    "Ask again": "重新提问",
    "Stop": "停止",
    "with a picture": "附图片",
    "Select a number to see its place on the page.": "点击编号，查看其在页面上的位置。",
    "Why these pages?": "为什么是这些页面？",
    "This collection holds no documents yet.": "此文档集中还没有文档。",
    "Add documents": "添加文档",
    "You can ask as soon as the first document is read.": "读完第一份文档后即可提问。",
    "page {page}": "第 {page} 页",
    "The document has been removed since.": "该文档已被移除。",
    "text": "文本",
    "section header": "标题",
    "list item": "列表项",
    "table": "表格",
    "picture": "图片",
    "caption": "图表标题",
    "formula": "公式",
    "page header": "页眉",
    "page footer": "页脚",
    # -- settings ------------------------------------------------------------------------------------------------------
    "These choices are for this browser tab; they count once they are applied.": (
        "这些选项只对当前浏览器标签页有效，点击“应用”后生效。"
    ),
    "Finding pages": "查找页面",
    "Profile": "配置方案",
    "All models come with the install.": "所有模型随安装包提供。",
    "CLIP, and a model that writes the answer.": "CLIP，以及撰写答案的模型。",
    "choose or type": "请选择或输入",
    "How pictures are found": "如何查找图片",
    "A CLIP-family checkpoint by hub name or folder. A collection is asked with the one it was made with.": (
        "CLIP 系列模型的名称或文件夹。文档集须用建立时的同一模型提问。"
    ),
    "by their captions and the words around them": "按图注和周围文字",
    "Reading the best pages once more": "对最佳页面重新排序",
    "A cross-encoder by hub name or folder, or the one that comes with the install, which reads English.": (
        "交叉编码器的名称或文件夹，或随安装包提供的模型（仅英文）。"
    ),
    "no": "否",
    "yes, with the bundled reranker (English)": "是，使用自带的重排模型（英文）",
    "Pages that an answer is made from": "生成答案所用的页数",
    "More pages find more and take longer; a model may get lost in too many.": (
        "页数越多，找到的内容越多，耗时也越长；过多页面可能使模型迷失。"
    ),
    "Answering": "回答",
    "Who writes the answer": "由谁撰写答案",
    "A vision-language checkpoint by hub name or folder can be typed here too (needs mmrag[full]).": (
        "也可输入视觉语言模型的名称或文件夹（需要 mmrag[full]）。"
    ),
    "nobody: the page is quoted": "不撰写，直接引用原文",
    "a model on a server (OpenAI's protocol)": "服务器上的模型（OpenAI 协议）",
    "Wrong answers that you accept": "可接受的错误答案比例",
    "An answer is given when mmrag is at least {sure} sure of it; otherwise it says that the documents do not "
    "answer. Further left, fewer questions are answered, and more of them rightly.": (
        "只有把握不低于 {sure} 时才给出答案，否则说明文档中没有答案。越往左，回答的问题越少，但正确的比例越高。"
    ),
    "Server address": "服务器地址",
    "This machine sends questions and pictures of pages there: name only a server that you trust.": (
        "本机会把问题和页面图像发送到该地址：请只填写可信的服务器。"
    ),
    "Other machines reach this app, so it sends pages only to servers that it was started with: an address "
    "typed here would let anybody make this machine send requests.": (
        "其他机器可以访问本应用，因此页面只会发送到启动时指定的服务器：若可在此输入地址，任何人都能让本机发出请求。"
    ),
    "List its models": "列出其模型",
    "Asking the server …": "正在询问服务器……",
    "Model": "模型",
    "The name by which the server knows it; it must read images.": "服务器上的模型名称，须能读取图像。",
    "The server lists no models: type the name of one.": "服务器没有列出模型：请输入模型名称。",
    "Key": "密钥",
    "A key is set.": "已设置密钥。",
    "only if the server wants one": "仅在服务器要求时填写",
    "It stays in this machine's memory while the tab is open, and is neither shown nor kept.": (
        "仅在标签页打开期间保存在本机内存中，既不显示，也不留存。"
    ),
    "Forget the key": "清除密钥",
    "Answers that are compared": "用于比较的回答数",
    "With more than one, the model answers several times, and what most of them say is kept.": (
        "大于一时，模型会多次回答，保留多数回答一致的内容。"
    ),
    "Visual tokens": "视觉 token 数",
    "How sharp the model sees all pictures of a question together; fewer are faster.": (
        "模型看一个问题的全部图像时的清晰度；越少越快。"
    ),
    "Contrast": "对比解码",
    "Weighs down what the model would say without looking; 0 is off, 1 is usual, more is slower.": (
        "降低模型不看图也会说的内容的权重；0 为关闭，1 为常用值，开启后变慢。"
    ),
    "Load in 4 bits (NVIDIA GPU)": "以 4 位精度加载（NVIDIA GPU）",
    "Checking what a model says": "核查模型的说法",
    "How claims are checked": "如何核查",
    "by the words of the cited place": "按引用处的文字",
    "by looking again, too": "再次看图核对",
    "not at all": "不核查",
    "NLI model": "NLI 模型",
    "none": "无",
    "Decides whether a place says it, by hub name or folder (needs mmrag[full]).": (
        "判断引用处是否这样说，填名称或文件夹（需要 mmrag[full]）。"
    ),
    "What nothing supports": "没有依据的内容",
    "is marked": "标记",
    "is left out": "略去",
    "Apply": "应用",
    "Reset": "重置",
    "Back to how the app was started, with what is kept.": "恢复为应用启动时的设置和已保存的默认值。",
    "Keep as default": "存为默认",
    "For everybody and the next start, without the key.": "对所有人和下次启动有效，不含密钥。",
    "Only on the machine itself.": "只能在本机上操作。",
    "Forget the defaults": "清除默认值",
    "Kept.": "已保存。",
    "Applied.": "已应用。",
    "The server's address is missing: http://localhost:8000/v1, for example.": (
        "缺少服务器地址，例如 http://localhost:8000/v1。"
    ),
    "Name the server's model, or list what it has.": "请填写服务器的模型名称，或列出其模型。",
    "This machine": "本机",
    "Look what is installed and what fits": "检查安装情况和可用资源",
    "Nothing to do.": "无需处理。",
    "{count} things are fine": "{count} 项正常",
    # -- collections ---------------------------------------------------------------------------------------------------
    "A collection holds documents that are asked together. Make the first one:": (
        "文档集中的文档会一起被提问。请先新建一个："
    ),
    "New collection": "新建文档集",
    "Name": "名称",
    "Annual reports": "年度报告",
    "Make the collection": "新建文档集",
    "Or look around first:": "或者先看看演示：",
    "Delete": "删除",
    "It was not made in this app: remove its folder yourself.": "它不是在此应用中新建的：请自行删除其文件夹。",
    "Delete this collection?": "删除此文档集？",
    "{documents} documents · {pages} pages · {size}": "{documents} 份文档 · {pages} 页 · {size}",
    "**{name}** goes for good, with all that was uploaded to it. Files that stand elsewhere are not touched.": (
        "**{name}** 及上传到其中的全部文件将被永久删除。存放在别处的文件不受影响。"
    ),
    "It is being written to: cancel that first.": "正在写入此文档集：请先取消。",
    "Delete for good": "永久删除",
    "Files": "文件",
    "A whole folder": "整个文件夹",
    "From this machine": "本机文件夹",
    "Documents and pictures": "文档和图片",
    "A file that is uploaded again under its name replaces the older version.": "再次上传同名文件会替换旧版本。",
    "Folder or file on the machine that runs this app": "运行此应用的计算机上的文件夹或文件",
    "Add": "添加",
    "Allowed: {folders}": "允许的位置：{folders}",
    "waiting": "等待中",
    "running": "进行中",
    "done": "已完成",
    "failed": "失败",
    "cancelled": "已取消",
    "interrupted": "已中断",
    "reading": "读取中",
    "ingested": "已添加",
    "replaced": "已替换",
    "unchanged": "未变",
    "removed": "已移除",
    "Cancel": "取消",
    "Resume": "继续",
    "Dismiss": "清除",
    "Dismiss all {count}": "清除全部 {count} 项",
    "All {count} files": "全部 {count} 个文件",
    "{count} files could not be read:": "有 {count} 个文件无法读取：",
    "File": "文件",
    "State": "状态",
    "Pages": "页数",
    "What to do": "如何处理",
    "What to know": "说明",
    "The first {shown} of {count} files.": "共 {count} 个文件，仅显示前 {shown} 个。",
    "Read again": "重新读取",
    "Remove": "移除",
    "Removed from the collection; files that stand elsewhere are not touched.": (
        "仅从文档集中移除；存放在别处的文件不受影响。"
    ),
    "Remove {count} for good": "移除这 {count} 份文档",
    "The documents appear here one by one as they are read.": "文档读取后会逐一显示在这里。",
    "This collection holds no documents yet. Open “Add documents” above and drop some files there.": (
        "此文档集中还没有文档。请打开上方的“添加文档”，把文件拖放到那里。"
    ),
    "Search": "搜索",
    "Search by name or title": "按名称或标题搜索",
    "No document has this in its name or title.": "没有名称或标题与之相符的文档。",
    "Select a card to read it page by page; tick several to remove them or have them read again.": (
        "点击卡片可逐页查看；勾选多份文档可一并移除或重新读取。"
    ),
    "{count} ticked": "已勾选 {count} 份",
    "Tick all {count}": "勾选全部 {count} 份",
    "Tick none": "取消勾选",
    "Tick": "勾选",
    "Open": "打开",
    "{pages} pages": "{pages} 页",
    "1 page": "1 页",
    "Previous page": "上一页",
    "Next page": "下一页",
    "Page": "页码",
    "Page {page}": "第 {page} 页",
    "page {page} of the file": "文件第 {page} 页",
    "of {count}": "/ {count}",
    "Nothing was found on this page.": "此页上没有识别到内容。",
    "Description by a model: {said}": "模型生成的描述：{said}",
    "Tags by a model: {tags}": "模型生成的标签：{tags}",
    "The collection's copy of this document is missing or damaged: have it read again.": (
        "文档集中此文档的副本缺失或损坏：请重新读取。"
    ),
    # -- evidence ------------------------------------------------------------------------------------------------------
    "Question": "问题",
    "With the picture of the last question": "连同上一问题的图片",
    "Type a question to see which pages each leg finds for it.": "输入问题，查看每条检索通道找到哪些页面。",
    "No leg found a page.": "没有任何检索通道找到页面。",
    "The ranking, and what each leg gave": "排名，以及每条通道的贡献",
    "A leg's score counts by how many standard deviations it lies above the worst page of that leg, times the leg's "
    "weight; a page's score is the sum.": (
        "每条通道的得分，按其高出该通道最差页面多少个标准差，再乘以通道权重计入；页面的总分为各项之和。"
    ),
    "Place": "名次",
    "Document": "文档",
    "Score": "得分",
    "Leg": "通道",
    "Rank": "排名",
    "Rank in this leg": "在此通道中的排名",
    "Counts as": "计入",
    "Its own score": "原始得分",
    "Place in the ranking": "总排名中的名次",
    "What each leg found": "每条通道找到了什么",
    "Without a say": "未参与的通道",
    "Its best region: {kind}": "最佳区域：{kind}",
    "Words on the page": "整页词语",
    "The question's words in the text of the whole page, rare words first (BM25).": (
        "问题中的词语出现在整页文字中，越罕见的词越重要（BM25）。"
    ),
    "Words in a passage": "段落词语",
    "The question's words close together in one passage (BM25).": "问题中的词语集中出现在同一段落（BM25）。",
    "Meaning": "语义",
    "Passages that mean something like the question, in other words too (cosine of vectors).": (
        "与问题意思相近的段落，用词不同也可（向量余弦）。"
    ),
    "Pictures": "图片",
    "Figures and photos that fit the question's words (cosine of vectors).": "与问题文字相符的图表和照片（向量余弦）。",
    "Your picture": "所附图片",
    "Figures and photos that look like the picture that was asked with (cosine of vectors).": (
        "与提问所附图片相似的图表和照片（向量余弦）。"
    ),
    "Page number": "页码",
    "Pages whose number stands in the question.": "问题中写明页码的页面。",
    "Named figure or table": "点名的图表",
    "Where the figure, table or appendix stands that the question names.": "问题点名的图、表或附录所在之处。",
    "Reranker": "重排序",
    "A second model reads the question together with the best passage of the best pages.": (
        "另一个模型把问题与靠前页面的最佳段落放在一起阅读。"
    ),
    "It counts nothing: its weight is 0.": "不计入：权重为 0。",
    "It found nothing.": "什么也没有找到。",
    "No reranker is chosen in the settings.": "设置中没有选择重排序模型。",
    "The question was asked without a picture.": "提问时没有附图片。",
    "The question names no page number.": "问题中没有页码。",
    "The question names no figure or table.": "问题没有点名图或表。",
    "The question has no words to go by.": "问题中没有可用的词语。",
    "The text encoder reads no Chinese.": "文本编码器不识中文。",
    "Pictures are found by their captions, whose encoder reads no Chinese.": (
        "图片按其标题查找，而标题的编码器不识中文。"
    ),
    "The reranker reads no Chinese.": "重排序模型不识中文。",
    # -- evals ---------------------------------------------------------------------------------------------------------
    "Measurements": "评测结果",
    "There are no runs in {folder} yet. One is made by, for example:": "{folder} 中还没有评测结果。可以这样生成：",
    "Files that are no runs: {count}": "不是评测结果的文件：{count} 个",
    "Reason": "原因",
    "Measurement": "评测",
    "Made with": "模型",
    "Finished": "完成时间",
    "Items": "条目数",
    "Metric": "指标",
    "Score [95 %]": "得分 [95 %]",
    "Select one run to read it, two to compare them.": "选择一项查看，选择两项比较。",
    "Select at most two runs.": "最多选择两项。",
    "Scores": "得分",
    "Items, worst first": "条目（最差在前）",
    "What made it": "生成条件",
    "Means, with 95 % intervals by bootstrap in brackets.": "均值，方括号内为自助法 95 % 区间。",
    "Group": "分组",
    "All groups": "全部分组",
    "No plot was written beside this run, and none can be drawn: {reason}": "此结果旁没有图，也无法绘制：{reason}",
    "Setting": "设置",
    "Value": "值",
    "This measurement keeps no items.": "此评测不保存条目。",
    "No item of this group has this metric.": "此分组中没有条目有这一指标。",
    "Item": "条目",
    "Expected": "应答",
    "Said": "实答",
    "All that the run says of it": "评测文件中的全部内容",
    "The run names no page for this item.": "评测文件没有为此条目指明页面。",
    "Right page: {page}": "正确页面：{page}",
    "Cited: {page}": "引用：{page}",
    "The collection that is open does not hold {document}.": "当前文档集中没有 {document}。",
    "The page has no such region here: the document was read in another way.": (
        "此处的页面没有该区域：文档的读取方式不同。"
    ),
    "Comparing …": "正在比较……",
    "First": "第一项",
    "Second": "第二项",
    "{common} items in both, {first} only in the first, {second} only in the second. Differences are the second less "
    "the first, with 95 % intervals by paired bootstrap.": (
        "两项共有 {common} 个条目，仅第一项有 {first} 个，仅第二项有 {second} 个。"
        "差值为第二项减第一项，区间为配对自助法 95 %。"
    ),
    "Difference": "差值",
    "Difference [95 %]": "差值 [95 %]",
    "Second higher": "第二项更高",
    "Items that differ most": "差别最大的条目",
    "No item differs in this metric.": "没有条目在这一指标上不同。",
}

SENTENCES = {
    "Quoted from the page.": "引自原文。",
    "The words stand there.": "原文如此。",
    "Its words and figures are there.": "所述词句和数字均见于此处。",
    "The cited place has no words that could be checked.": "引用处没有可核查的文字。",
    "It says: “{words}”": "原文为：“{words}”",
    "The figure {figure} is not there.": "此处没有数字 {figure}。",
    "The words “{words}” are not there.": "此处没有“{words}”。",
    "It says “{there}” where the claim says “{here}”.": "原文为“{there}”，答案却说“{here}”。",
    "The claim says “{word}”, and the place denies nothing.": "答案说“{word}”，而原文并未否定。",
    "It does not name {name}.": "此处没有提到 {name}。",
    "Nothing there is like: {words}.": "此处没有与之相近的内容：{words}。",
    "It cites nothing, and no region that was looked at supports it.": "没有引用出处，所查看的区域也都不支持。",
    "The model was asked again and said neither yes nor no.": "再次询问模型，它既未肯定也未否定。",
    "The model does not see it in the region.": "模型在该区域中没有看到。",
    "The model sees it in the region, but would say so without the region too.": (
        "模型在该区域中看到了，但遮住该区域时仍这样说。"
    ),
    "The model sees it in the region and not without it.": "模型在该区域中看到了，遮住该区域则看不到。",
    "The model found no answer on the pages that it was shown.": "模型在所示页面中没有找到答案。",
    "The model replied without words.": "模型没有写出任何文字。",
    "The model cited nothing for what it said: {words}": "模型没有为其所说给出出处：{words}",
    "The store holds nothing to look at.": "文档集中没有可查看的内容。",
    "The reply was cut off: it is longer than the model was allowed to write.": "回答被截断：超出了允许的长度。",
    "The reply was cut off: the model began to repeat itself.": "回答被截断：模型开始重复。",
    "The reply cites {mark}, which it was not shown.": "回答引用了 {mark}，而模型并未看到它。",
    "{some} of {all} samples agree.": "{all} 次采样中有 {some} 次一致。",
    "Left out, because nothing supports it: {claim}": "已略去，因为没有依据：{claim}",
    "The model cited another region for “{claim}”: {place} supports it.": (
        "模型为“{claim}”引用了别处，而支持它的是 {place}。"
    ),
    "The model cited nothing for “{claim}”: {place} supports it.": "模型没有为“{claim}”给出出处，支持它的是 {place}。",
    "Stopped.": "已停止。",
}
