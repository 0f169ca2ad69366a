// Every word of the page, in every language it speaks; and which of them it speaks now.

const EN = {
  skip: "To the question",
  model: "Model",
  display: "Language and colours",
  "theme.auto": "Theme: system",
  "theme.light": "Theme: light",
  "theme.dark": "Theme: dark",
  "token.title": "This server asks for a token",
  "token.why": "It stays in this page's memory and is gone when you close it.",
  "token.label": "Bearer token",
  "token.enter": "Enter",
  "ask.title": "Ask",
  "ask.send": "Ask the model",
  "ask.sending": "Asking …",
  "ask.example": "Example",
  "ask.keys": "Ctrl + Enter asks, too",
  "ask.options": "Options",
  "ask.each": "Each line is a request of its own; answers come as they are ready",
  "ask.default": "as the model was trained",
  "ask.yes": "yes",
  "ask.no": "no",
  "scenario.text-classification": "text classification",
  "scenario.translation": "translation",
  "scenario.language-modelling": "language modelling",
  "scenario.question-answering": "question answering",
  "scenario.recommendation": "recommendation",
  "scenario.image-classification": "image classification",
  "scenario.image-text-classification": "image and text classification",
  "scenario.speech-recognition": "speech recognition",
  "field.text": "Text",
  "field.source": "Text to translate",
  "field.prompt": "Beginning",
  "field.question": "Question",
  "field.context": "Text that may answer it",
  "field.image": "Image",
  "field.audio": "Recording",
  "field.history": "What the user did so far: one item a line, oldest first",
  "field.k": "How many items",
  "field.include_seen": "Recommend items of the history",
  "field.max_new_tokens": "Tokens at most",
  "field.temperature": "Temperature",
  "field.top_k": "Top k (0: all)",
  "field.top_p": "Top p",
  "field.seed": "Seed",
  "media.image": "Drop an image here, or choose a file",
  "media.audio": "Drop a recording here, or choose a file",
  "media.chosen": "The image that will be asked about",
  "media.heard": "The recording that will be asked about",
  "media.remove": "Remove",
  "media.example": "example",
  "media.long": "{name} is {size}, and the server takes {most} at most",
  "media.unreadable": "This recording can't be read by the browser",
  "sound.record": "Record",
  "sound.stop": "Stop ({seconds} s)",
  "sound.none": "The browser gives no microphone to this page: it needs HTTPS or localhost, and your permission",
  "answer.title": "Answer",
  "answer.empty": "What the model says will be here.",
  "answer.sure": "{percent} sure",
  value: "{value}",
  "answer.more": "and {count} more",
  "answer.none": "The text does not answer the question.",
  "answer.silence": "Nothing.",
  "answer.placeholders": "Placeholders or tags of the source are missing.",
  "answer.unknown": "Ignored, because the model does not know them: {items}",
  "answer.version": "version",
  "answer.time": "round trip",
  "answer.id": "request",
  "answer.lines": "{done} of {count}",
  "answer.ms": "{ms} ms",
  "words.ask": "Which words mattered?",
  "words.asking": "Leaving out each …",
  "words.told": "Left out one at a time: what the answer “{label}” would have lost (underlined) or gained (dotted).",
  "words.few": "There is only one word.",
  "words.one": "{word}: {points} points",
  "words.speaks": "Words by what they did for the answer",
  "feedback.ask": "Is this right?",
  "feedback.right": "Right",
  "feedback.wrong": "Wrong",
  "feedback.correction": "What would be right? (optional)",
  "feedback.send": "Send",
  "feedback.thanks": "Kept. Thank you.",
  "feedback.none": "Feedback is not kept here: the server follows no store.",
  "history.title": "Versions",
  "history.none": "This server does not follow a store.",
  "history.empty": "The journal is empty.",
  "history.older": "Older events are in the store.",
  "history.live": "live",
  "history.served": "served here",
  "history.missed": "{version} is live in the store, but could not be served: {reason}",
  "history.published": "published",
  "history.staged": "staged",
  "history.promoted": "promoted",
  "history.kept": "champion kept",
  "history.inconclusive": "inconclusive",
  "history.rolled-back": "rolled back to",
  "history.not-served": "not served",
  "history.canary": "tried on requests",
  "history.withdrawn": "withdrawn",
  "history.overdue": "overdue",
  "history.as-canary": "canary: {share} of requests",
  "history.as-shadow": "shadow: {share} of requests",
  "history.canary-missed": "{version} is to be tried on requests, but could not be served: {reason}",
  "metrics.title": "Live metrics",
  "metrics.requests": "requests",
  "metrics.rate": "a second",
  "metrics.p50": "half within",
  "metrics.p99": "99 % within",
  "metrics.queue": "rows waiting",
  "metrics.inside": "requests inside",
  "metrics.refused": "not answered",
  "metrics.feedback": "right / wrong",
  "metrics.since": "Since the server started; refusals of all models.",
  "cards.model": "Model card",
  "cards.data": "Data card",
  "cards.none": "This version has none.",
  "cards.table": "Table",
  "footer.api": "API documentation",
  "footer.metrics": "Prometheus metrics",
  "refused.400": "The server did not understand the request.",
  "refused.401": "The token is missing or wrong.",
  "refused.408": "The request did not arrive in time.",
  "refused.409": "The server can't do this as it was started.",
  "refused.413": "That is more than the server takes at once.",
  "refused.422": "A field is missing or wrong.",
  "refused.429": "Too much at once: try again in {seconds} s.",
  "refused.500": "The model failed on this request.",
  "refused.503": "The server is stopping or too busy: try again in {seconds} s.",
  "refused.other": "The server refused: {status}.",
  "refused.gone": "The server does not answer.",
  "refused.said": "The server says: {what}",
};

const ZH = {
  skip: "跳到提问",
  model: "模型",
  display: "语言与配色",
  "theme.auto": "配色：跟随系统",
  "theme.light": "配色：浅色",
  "theme.dark": "配色：深色",
  "token.title": "此服务器需要令牌",
  "token.why": "令牌只留在本页内存中，关闭页面即消失。",
  "token.label": "Bearer 令牌",
  "token.enter": "进入",
  "ask.title": "提问",
  "ask.send": "询问模型",
  "ask.sending": "正在询问……",
  "ask.example": "示例",
  "ask.keys": "也可按 Ctrl + Enter 提交",
  "ask.options": "选项",
  "ask.each": "每行作为一个请求，答案就绪即显示",
  "ask.default": "按训练时的设置",
  "ask.yes": "是",
  "ask.no": "否",
  "scenario.text-classification": "文本分类",
  "scenario.translation": "翻译",
  "scenario.language-modelling": "语言建模",
  "scenario.question-answering": "问答",
  "scenario.recommendation": "推荐",
  "scenario.image-classification": "图像分类",
  "scenario.image-text-classification": "图文分类",
  "scenario.speech-recognition": "语音识别",
  "field.text": "文本",
  "field.source": "待翻译文本",
  "field.prompt": "开头",
  "field.question": "问题",
  "field.context": "可能含有答案的文本",
  "field.image": "图像",
  "field.audio": "录音",
  "field.history": "用户的历史：每行一项，最早的在前",
  "field.k": "推荐数量",
  "field.include_seen": "可推荐历史中的项目",
  "field.max_new_tokens": "最多词元数",
  "field.temperature": "温度",
  "field.top_k": "Top k（0 为全部）",
  "field.top_p": "Top p",
  "field.seed": "随机种子",
  "media.image": "将图像拖到此处，或选择文件",
  "media.audio": "将录音拖到此处，或选择文件",
  "media.chosen": "将要询问的图像",
  "media.heard": "将要询问的录音",
  "media.remove": "移除",
  "media.example": "示例",
  "media.long": "{name} 为 {size}，服务器最多接收 {most}",
  "media.unreadable": "浏览器无法读取这段录音",
  "sound.record": "录音",
  "sound.stop": "停止（{seconds} 秒）",
  "sound.none": "浏览器未向本页开放麦克风：需要 HTTPS 或 localhost，以及您的许可",
  "answer.title": "回答",
  "answer.empty": "模型的回答将显示在这里。",
  "answer.sure": "置信度 {percent}",
  value: "{value}",
  "answer.more": "另有 {count} 项",
  "answer.none": "文本中没有这个问题的答案。",
  "answer.silence": "（空）",
  "answer.placeholders": "译文缺少原文中的占位符或标签。",
  "answer.unknown": "模型不认识、已忽略：{items}",
  "answer.version": "版本",
  "answer.time": "往返",
  "answer.id": "请求",
  "answer.lines": "{done} / {count}",
  "answer.ms": "{ms} ms",
  "words.ask": "哪些词起了作用？",
  "words.asking": "正在逐一略去……",
  "words.told": "逐词略去后，回答“{label}”会失去（下划线）或得到（点线）多少概率。",
  "words.few": "只有一个词。",
  "words.one": "{word}：{points} 个百分点",
  "words.speaks": "各词对回答的作用",
  "feedback.ask": "回答正确吗？",
  "feedback.right": "正确",
  "feedback.wrong": "错误",
  "feedback.correction": "正确的应当是？（可不填）",
  "feedback.send": "提交",
  "feedback.thanks": "已保存，谢谢。",
  "feedback.none": "此处不保存反馈：服务器未跟随模型仓库。",
  "history.title": "版本",
  "history.none": "此服务器未跟随模型仓库。",
  "history.empty": "日志为空。",
  "history.older": "更早的事件见模型仓库。",
  "history.live": "线上",
  "history.served": "正在此处服务",
  "history.missed": "仓库中线上版本 {version} 无法在此服务：{reason}",
  "history.published": "已发布",
  "history.staged": "已就绪",
  "history.promoted": "已上线",
  "history.kept": "保留现有模型",
  "history.inconclusive": "未分胜负",
  "history.rolled-back": "回滚至",
  "history.not-served": "未能服务",
  "history.canary": "试用中",
  "history.withdrawn": "已撤回",
  "history.overdue": "试用超期",
  "history.as-canary": "灰度：{share} 的请求",
  "history.as-shadow": "影子：{share} 的请求",
  "history.canary-missed": "版本 {version} 应试用于部分请求，但无法在此服务：{reason}",
  "metrics.title": "实时指标",
  "metrics.requests": "请求数",
  "metrics.rate": "每秒",
  "metrics.p50": "半数不超过",
  "metrics.p99": "99% 不超过",
  "metrics.queue": "排队行数",
  "metrics.inside": "处理中请求",
  "metrics.refused": "未回答",
  "metrics.feedback": "正确 / 错误",
  "metrics.since": "自服务器启动以来；拒绝数含全部模型。",
  "cards.model": "模型卡",
  "cards.data": "数据卡",
  "cards.none": "此版本没有。",
  "cards.table": "表格",
  "footer.api": "API 文档",
  "footer.metrics": "Prometheus 指标",
  "refused.400": "服务器无法理解该请求。",
  "refused.401": "令牌缺失或错误。",
  "refused.408": "请求未能及时送达。",
  "refused.409": "服务器以当前方式启动，无法执行此操作。",
  "refused.413": "超出服务器一次可接收的量。",
  "refused.422": "有字段缺失或有误。",
  "refused.429": "请求过多：请在 {seconds} 秒后重试。",
  "refused.500": "模型处理该请求时失败。",
  "refused.503": "服务器正在停止或过于繁忙：请在 {seconds} 秒后重试。",
  "refused.other": "服务器拒绝了请求：{status}。",
  "refused.gone": "服务器没有响应。",
  "refused.said": "服务器说：{what}",
};

const TABLES = { en: EN, zh: ZH };
const ATTRIBUTES = ["label", "alt"];
const values = new WeakMap();
let spoken = "en";

/** The word for `key` as it is said now; {name} is filled from `given`, whose functions are asked when it is said. */
export function t(key, given = {}) {
  const text = TABLES[spoken][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = given[name];
    return String(typeof value === "function" ? value() : (value ?? ""));
  });
}

/** Whether there is a word for it. */
export const knows = (key) => key in EN;

/** The text of `node` is this word from now on, in whatever language. */
export function say(node, key, given = {}) {
  node.setAttribute("data-t", key);
  values.set(node, given);
  node.textContent = t(key, given);
  return node;
}

/** The same for an attribute: "label" (aria-label) or "alt". */
export function name(node, attribute, key) {
  node.setAttribute(`data-t-${attribute}`, key);
  node.setAttribute(attribute === "label" ? "aria-label" : attribute, t(key));
  return node;
}

export const language = () => spoken;

/** Speak this language: all that was said is said again. */
export function speak(wanted) {
  spoken = wanted in TABLES ? wanted : "en";
  document.documentElement.lang = spoken === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-t]")) {
    node.textContent = t(node.getAttribute("data-t"), values.get(node));
  }
  for (const attribute of ATTRIBUTES) {
    for (const node of document.querySelectorAll(`[data-t-${attribute}]`)) {
      name(node, attribute, node.getAttribute(`data-t-${attribute}`));
    }
  }
}

export const number = (value, digits = 0) =>
  value.toLocaleString(spoken === "zh" ? "zh-CN" : "en", { maximumFractionDigits: digits });

export const percent = (share) =>
  share.toLocaleString(spoken === "zh" ? "zh-CN" : "en", {
    style: "percent",
    minimumFractionDigits: 1,
    maximumFractionDigits: 1,
  });

export const moment = (iso) =>
  new Date(iso).toLocaleString(spoken === "zh" ? "zh-CN" : "en", { dateStyle: "medium", timeStyle: "short" });
