"""The interface in two languages: English as it stands in the code, Chinese by what stands here.

What documents, models and the library say is not translated.
"""

from __future__ import annotations

import streamlit as st

LANGUAGES = {"en": "English", "zh": "中文"}


def t(text: str, **values: object) -> str:
    """The text in the chosen language, with its {values} put in."""
    told = CHINESE.get(text, text) if language() == "zh" else text
    return told.format(**values) if values else told


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
    "PDFs and pictures: reports, papers, slides, scans, photos. They stay on this machine.": (
        "PDF 和图片：报告、论文、幻灯片、扫描件、照片，均保留在本机。"
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
    "with a picture": "附图片",
    "Select a number to see its place on the page.": "点击编号，查看其在页面上的位置。",
    "Why these pages?": "为什么是这些页面？",
    "This collection holds no documents yet.": "此文档集中还没有文档。",
    "Add documents": "添加文档",
    "The words stand there.": "原文如此。",
    "page {page} of the file": "文件第 {page} 页",
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
    # -- collections ---------------------------------------------------------------------------------------------------
    "A collection holds documents that are asked together. Make the first one:": "文档集中的文档会一起被提问。请先新建一个：",
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
    "PDFs and pictures": "PDF 和图片",
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
    "All documents of the collection": "返回文档列表",
    "Previous page": "上一页",
    "Next page": "下一页",
    "Page": "页码",
    "Page {page}": "第 {page} 页",
    "of {count}": "/ {count}",
    "Nothing was found on this page.": "此页上没有识别到内容。",
    "Description by a model: {text}": "模型生成的描述：{text}",
    "Tags by a model: {tags}": "模型生成的标签：{tags}",
    "The collection's copy of this document is missing or damaged: have it read again.": (
        "文档集中此文档的副本缺失或损坏：请重新读取。"
    ),
}
