"""What a file's name promises. Where it promises nothing, the content decides (``formats.py``)."""

from __future__ import annotations

from typing import Literal

from maxsight.index.records import Kind

_PICTURES = """
    jpg jpeg jpe jif jfif jfi pjpeg pjpg png apng pns webp gif tif tiff bmp dib heic heif heics
    heifs hif avif avifs mpo jps insp jp2 j2k j2c jpc jpf jpx jpm ppm pgm pbm pnm pfm pam tga icb
    vda vst psd pcx dcx pcd sgi rgb rgba bw dds qoi xbm xpm ras sun msp fits fit ico cur icns
"""
_FILMS = """
    mp4 m4v mp4v mov qt mqv mkv mk3d webm avi divx xvid amv mpg mpeg mpe m1v m2v mpv m2p vob evo vro
    m2t m2ts trp wmv asf dvr-ms wtv flv f4v 3gp 3gpp 3g2 3gp2 3gpp2 ogv ogm rm rmvb mxf gxf dv dif
    nut nsv ivf y4m insv 360 h264 264 h265 265 hevc mj2
"""
# Well-known suffixes of what is neither; such files are counted and never opened. Photographs as
# sensors see them (raw) are among them: what decoders find in those is a thumbnail. So are the
# small copies that cameras put beside their films (lrv, thm).
_OTHERS = """
    3fr arw cr2 cr3 crw dcr dng erf fff gpr iiq k25 kdc mef mos mrw nef nrw orf pef ptx r3d raf raw
    rw2 rwl sr2 srf srw x3f braw ari lrv thm
    aac ac3 aif aiff alac amr ape au caf dsf dts flac m4a m4b m4p mid midi mka mp2 mp3 mpa mpc oga
    opus ra snd spx voc wav wma wv m3u m3u8 pls cue srt sub ass ssa vtt idx sup lrc
    txt md rst log csv tsv json jsonl ndjson xml yaml yml toml ini cfg conf properties html htm
    xhtml mht mhtml css scss less svg svgz eps ps ai pdf djvu xps epub mobi azw azw3 fb2 tex bib doc
    docx docm dot dotx xls xlsx xlsm xlsb ppt pptx pptm pps ppsx odt ods odp odg odf rtf pages
    numbers key one pst ost msg eml mbox vcf ics xmp aae thumb lnk url webloc desktop nfo ifo bup
    zip 7z rar gz tgz bz2 tbz xz txz zst lz lz4 tar cab iso img dmg vhd vhdx vmdk vdi qcow2 deb rpm
    apk ipa msi exe dll so dylib a o obj lib pyc pyo pyd class jar war whl egg gem bin dat bak tmp
    temp swp part crdownload download torrent
    py pyi ipynb js mjs cjs jsx tsx c h cc cpp cxx hpp hh cu cuh java kt scala go rs rb php pl pm sh
    bash zsh fish ps1 bat cmd vbs lua r jl m mm swift cs fs vb sql asm s f90 cmake make mk lock map
    wasm vue svelte dart ex exs erl hs ml clj el lisp tcl gradle diff patch
    db sqlite sqlite3 mdb accdb dbf parquet arrow feather lance orc avro npy npz mat h5 hdf5 pkl
    pickle pt pth onnx safetensors gguf ckpt pb tfrecord manifest txn arrows
    ttf otf woff woff2 eot pfb pfm fon stl obj fbx gltf glb blend dae ply 3ds max c4d dwg dxf step
    stp iges igs skp lrcat lrdata lrprev lrtemplate xcf kra afphoto afdesign indd cdr sketch fig
    psb swf jxl jxr wdp hdr exr webarchive plist strings nib gpx kml kmz tcx geojson shp shx prj
    crt pem cer p12 pfx asc sig gpg sha1 sha256 md5 sfv par2 reg sys drv inf cat pdb ilk
"""
# Also names of other files: a Fortran or tracker module, TypeScript, Qt's translations, sound.
_EITHER = (
    "ts mts mod tod tp ps ogg ogx mp dat bin m raw hdr cat max fit pfm obj ras sun bw rgb rgba"
)


def _table() -> dict[str, Kind | Literal["other"]]:
    table: dict[str, Kind | Literal["other"]] = dict.fromkeys(_OTHERS.split(), "other")
    table |= dict.fromkeys(_PICTURES.split(), "image")
    table |= dict.fromkeys(_FILMS.split(), "video")
    return {name: kind for name, kind in table.items() if name not in _EITHER.split()}


_PROMISES = _table()


def suffix_of(name: str) -> str:
    """``.jpg`` of ``Photo.JPG``; empty where there is none that deserves the name."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem and 0 < len(suffix) <= 12 else ""


def promise(name: str) -> Kind | Literal["other"] | None:
    """The kind a file's name or path promises; ``other`` for neither pictures nor films; None where
    the content has to be looked at.
    """
    stem, dot, suffix = name.rpartition(".")
    return _PROMISES.get(suffix.lower()) if dot and stem else None


def kind_of(name: str) -> Kind | None:
    """The kind a file's name promises, None if it promises none."""
    kind = promise(name)
    return None if kind == "other" else kind
