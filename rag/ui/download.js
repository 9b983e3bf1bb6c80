// Saves what the server has made as a file: {name, text, number}; the number tells two of them apart.
watch('value', () => {
  const file = props.value;
  if (!file?.name) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([file.text], {type: 'text/plain;charset=utf-8'}));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
});
